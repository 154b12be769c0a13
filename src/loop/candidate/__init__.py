"""What CI does with a trained model before it may be released: gate, register, bento, rehearse, image."""
