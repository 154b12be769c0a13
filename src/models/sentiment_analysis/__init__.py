"""sentiment-analysis: says whether a review praises or blames, from a sentence to several pages."""
