"""What runs PoseBusters, in a process of its own."""

from __future__ import annotations

import importlib
import logging
from multiprocessing.connection import Connection

MOLECULE_CHECKS = (
    "sanitization",
    "inchi_convertible",
    "all_atoms_connected",
    "no_radicals",
    "bond_lengths",
    "bond_angles",
    "internal_steric_clash",
    "aromatic_ring_flatness",
    "non-aromatic_ring_non-flatness",
    "double_bond_flatness",
)
ENERGY_CHECK = "internal_energy"


def check_molecules(connection: Connection, energy: bool) -> None:
    """Answers an RDKit molecule, as bytes, with what each check says, {name: bool}; see Impatient.

    `energy` compares its energy with that of other conformers, too.
    """
    chem = importlib.import_module("rdkit.Chem")
    importlib.import_module("rdkit.RDLogger").DisableLog("rdApp.*")
    logging.disable()
    busters = importlib.import_module("posebusters").PoseBusters("mol" if energy else "mol_fast")
    connection.send(None)
    while True:
        try:
            molecule = chem.Mol(connection.recv())
        except EOFError:  # nobody asks any more
            return
        table = busters.bust(mol_pred=molecule)
        connection.send({str(name): bool(passed) for name, passed in table.iloc[0].items()})
