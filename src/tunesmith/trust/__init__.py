"""Questions to finished runs: why they answer as they do, for whom and where they fail, how sure they may be."""
