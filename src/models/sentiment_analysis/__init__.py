"""sentiment-analysis: classifies reviews as positive or negative, from a sentence to several pages."""
