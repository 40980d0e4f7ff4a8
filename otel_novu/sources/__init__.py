"""Where figures come from: the host and Novu's database."""
