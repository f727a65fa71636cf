"""What scores say: figures with intervals, findings, a verdict, and the files that show them."""
