"""What happens to a string before it is split into tokens: Unicode form, markup, case, punctuation."""
