"""What reports are made of: pages and files that are written together, and plots as inline SVG."""
