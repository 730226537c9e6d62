"""Documents as people have them (PDF, DOCX, HTML, Markdown, plain text), cut into passages that can be searched."""
