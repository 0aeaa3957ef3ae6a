"""What must hold of a run, judged by what was seen of it. Nothing here knows the product's code."""
