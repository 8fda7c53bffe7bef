"""The chemical elements by number: H is 1."""

from __future__ import annotations

_IN_ORDER = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf "
    "Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
SYMBOLS = tuple(_IN_ORDER.split())
"""SYMBOLS[6] is "C"; SYMBOLS[0], "X", is an atom that is not known."""

_NUMBERS = {symbol.upper(): number for number, symbol in enumerate(SYMBOLS)} | {"D": 1, "T": 1}


def element_number(text: str) -> int:
    """1 … 118 of a symbol in any case (D and T are hydrogen) or of a number; 0 if there is none."""
    if text.isascii() and text.isdecimal():
        return int(text) if int(text) < len(SYMBOLS) else 0
    return _NUMBERS.get(text.upper(), 0)
