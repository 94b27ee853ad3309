"""Changes texts before they are split into tokens: Unicode form, markup, case, punctuation."""
