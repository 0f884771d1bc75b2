"""Pages, how the site is built, and what writes numbers into them."""
