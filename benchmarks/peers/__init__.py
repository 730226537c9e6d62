"""What tunesmith is compared with; each module runs in processes of its own."""
