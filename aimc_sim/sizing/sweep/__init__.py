"""Many designs at once: accuracy measured and cost computed for each, their front, and the page that shows them."""
