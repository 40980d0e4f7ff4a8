"""Where figures come from, one door to each outside system."""
