"""What a calculation gives: exact numbers, words, or nothing where the answer is unknown."""

from fractions import Fraction

Figure = Fraction | str | None
Figures = dict[str, Figure]
