"""Interpret a list's headings, and compare identities however they are spelt.

Columns of CSV and keys of JSON are headings alike. An unknown heading is never dropped: it stays with the row, and
decides whether the row may be paired. A value that matches two identities, however they are spelt, is ambiguous: the
caller gets both, and refuses.
"""

from __future__ import annotations

import base64
import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from fleet_iot.lib.record.spelling import is_same, spelt_as
from fleet_iot.operations.lists.material import is_public_key
from fleet_iot.operations.lists.record import Fault, Record, RefusedError, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The meaning of a column. `kind` is one of the keys below; columns of one `slot` must not disagree."""

    kind: str
    slot: str


WITHIN = ">"
"""Between the keys of nested objects."""

_SPELLINGS = {
    "name": "name thing thingname iotthing iotthingname awsthingname awsiotthingname nameofthing",
    "serial": """serial serials serialno serialnr serialnum serialnumber serialnumbers serialid serno sernr sn snr sno
        snumber deviceserial deviceserialno deviceserialnr deviceserialnum deviceserialnumber devicesn unitserial
        unitserialno unitserialnumber productserial productserialno productserialnumber thingserial thingserialnumber
        hardwareserial hardwareserialnumber manufacturerserial manufacturerserialnumber assetserial assetserialnumber
        seriennummer seriennr serienummer serialnummer""",
    "mac": """mac macs macaddress macaddr macadress macid macno macnumber devicemac devicemacaddress basemac
        basemacaddress eui eui48 eui64 deveui deviceeui""",
    "uuid": "uuid guid deviceuuid deviceguid thinguuid",
    "imei": "imei deviceimei",
    "id": """id deviceid deviceidentifier deviceno devicenr devicenum devicenumber identifier identity clientid
        mqttclientid thingid nodeid uniqueid uid deviceuid chipid chipuid hardwareid hwid moduleid boardid unitid
        wifimac wifimacaddress wlanmac wlanmacaddress ethernetmac ethernetmacaddress ethmac lanmac lanmacaddress
        bluetoothmac btmac blemac endpointid assetid assettag""",
    "label": "devicename device host hostname nodename displayname clientname unitname machinename assetname",
    "device_type": "devicetype devicetypeid devicetypename",
    "type": """type typeid typename typ thingtype thingtypename thingtypeid machinetype assettype equipmenttype
        unittype gerätetyp""",
    "model": """model modelid modelname modelnumber product productid productname producttype productline category
        categoryid kind class deviceclass devicemodel devicekind devicecategory family variant""",
    "plant": """plant plantid plantname facility facilityid facilityname site siteid sitename factory factoryid
        factoryname werk""",
    "certificate": """cert certs certificate certificates certificatepem certpem pemcertificate pemcert pem
        devicecertificate devicecertificatepem devicecert devicecertpem clientcertificate clientcertificatepem
        clientcert clientcertpem thingcertificate certificatebody certificatetext x509 x509certificate crt
        certificateder certder certificatebase64 certbase64""",
    "chain": "certificatechain certchain chain x5c fullchain",
    "request": """csr csrs csrpem pemcsr certificatesigningrequest certificaterequest signingrequest devicecsr
        devicecsrpem pkcs10 p10""",
    "common_name": "cn commonname subjectcn subjectcommonname certificatecn certificatecommonname certcn",
    "private_key": """key keys privatekey privatekeys privatekeypem privkey privatekeyder priv private secretkey
        devicekey deviceprivatekey clientkey clientprivatekey keypem pkey tlskey tlsprivatekey sslkey keyfile rsakey
        eckey""",
    "other": """certificateserial certificateserialno certificateserialnumber certserial certserialnumber certificateid
        certid certificatearn arn thingarn keyid kid fingerprint thumbprint sha1 sha256 subject subjectdn issuer
        issuername issuercn orderid orderno ordernr ordernumber batch batchid batchno batchnumber lot lotid lotno
        lotnumber palletid customer customerid lineid productnumber partno partnumber groupid userid accountid vendorid
        manufacturerid supplierid projectid tenantid rowid thinggroup thinggroupname
        devicegroup devicegroupname qrcode pop publickey pubkey cacertificate cacertificatepem cacert cacertpem
        rootca""",
}
_KINDS = {spelling: kind for kind, spellings in _SPELLINGS.items() for spelling in spellings.split()}
STRONG = ("name", "serial")
_WEAK = ("mac", "uuid", "imei", "id")
COLUMNS = ("type", "model", "plant", "other")
"""Kinds of known headings that do not identify a device within its type and plant."""
MATERIAL = ("certificate", "chain", "request")
IDENTITIES = (*STRONG, *_WEAK, "label")

_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
_PARTS = re.compile(r"[^\W\d_]+")
_MARKS = re.compile(r"serial|serien|seriennum|uuid|guid|imei|thing|ident|hostname|clientid|deviceid|nodeid|chipid")
_WORDS = {
    "sn",
    "snr",
    "mac",
    "macaddress",
    "macaddr",
    "eui",
    "uid",
    "id",
    "ids",
    "ident",
    "identifier",
    "série",
    "serie",
}
_OBJECTS = {
    "device",
    "unit",
    "machine",
    "asset",
    "equipment",
    "module",
    "board",
    "node",
    "client",
    "chip",
    "gerät",
    "geräte",
}
_NUMBERS = {"name", "no", "nr", "num", "number", "nummer", "code", "tag", "label", "key"}


@lru_cache(maxsize=4096)
def meaning_of(heading: str) -> Meaning | None:
    """Return what a heading means; None where it is unknown. `a>b` is the key `b` of the object `a` in JSON."""
    for part in (heading, heading.rpartition(WITHIN)[2]):
        bare = normalised(part)
        kind = _KINDS.get(bare)
        if kind is not None:
            return Meaning(kind=kind, slot=bare if kind in ("id", "label") else kind)
    return None


@lru_cache(maxsize=4096)
def normalised(heading: str) -> str:
    """Return a heading without case, white space, punctuation, accents' spellings and byte order marks."""
    text = unicodedata.normalize("NFKC", heading).casefold().replace("№", "no").replace("#", "no")
    return "".join(character for character in text if character.isalnum())


@lru_cache(maxsize=4096)
def looks_like_identity(heading: str) -> bool:
    """Return whether a heading that is not known may identify a row's device."""
    if meaning_of(heading) is not None:
        return False
    bare = normalised(heading)
    text = _HUMP.sub(" ", unicodedata.normalize("NFKC", heading))
    words = {word.casefold() for word in _PARTS.findall(text)} | {bare}
    if _MARKS.search(bare) or words & _WORDS or (words & _OBJECTS and words & _NUMBERS):
        return True
    known = [spelling for spelling, kind in _KINDS.items() if kind in IDENTITIES and len(spelling) > 3]
    return bool(difflib.get_close_matches(bare, known, n=1, cutoff=0.8))


def is_ignored(heading: str, ignored: frozenset[str]) -> bool:
    """Return whether a heading, or the last key of it, is among those that do not identify devices."""
    return bool(ignored) and not ignored.isdisjoint(map(normalised, (heading, heading.rpartition(WITHIN)[2])))


def is_name(heading: str) -> bool:
    """Return whether values under a heading identify a planned thing: its name, serial or host name."""
    meaning = meaning_of(heading)
    return meaning is not None and meaning.kind in (*STRONG, "label")


def has_material(headings: Iterable[str]) -> bool:
    """Return whether a heading is that of certificates or CSRs."""
    found = map(meaning_of, headings)
    return any(meaning is not None and meaning.kind in MATERIAL for meaning in found)


def record_of(
    values: Iterable[tuple[str, str]],
    *,
    number: int,
    place: str,
    raw: bytes,
    is_named: bool = True,
    ignored: frozenset[str] = frozenset(),
) -> Record:
    """Build a record from values and their headings. Raises RefusedError where two of one meaning disagree.

    Values under `ignored` (normalised headings) are left out, except private keys.

    Not `is_named`: the list's serials are the maker's; a thing may have one of them, or not.
    """
    slots: dict[str, tuple[str, str, str]] = {}
    unknown: list[tuple[str, str]] = []
    for heading, value in values:
        meaning = meaning_of(heading)
        is_secret = meaning is not None and meaning.kind == "private_key"
        if not value or (is_ignored(heading, ignored) and not is_secret):
            continue
        if meaning is None:
            unknown.append((heading, value))
            continue
        kind = meaning.kind
        if kind == "private_key" and not is_public_key(value):
            raise private_key_refusal()
        if kind in COLUMNS:
            unknown.append((heading, value))
        if kind in COLUMNS or kind == "private_key":
            continue
        value = spelt_as(kind, value)
        earlier = slots.get(meaning.slot)
        if earlier is None:
            slots[meaning.slot] = (kind, heading, value)
        elif not _agree(kind, earlier[2], value):
            raise RefusedError(
                f"its columns {earlier[1]!r} and {heading!r} disagree", "correct the record: both mean the same"
            )
    certificate = slots.get("certificate", slots.get("chain", (None, None, None)))[2]
    found = {
        kind: slots[kind][2] for kind in ("name", "serial", "common_name", "device_type", "request") if kind in slots
    }
    weak = [(kind, heading, value) for kind, heading, value in slots.values() if kind in _WEAK]
    labels = [(heading, value) for kind, heading, value in slots.values() if kind == "label"]
    must_match = is_named and ("name" in found or "serial" in found)
    if "name" not in found and "serial" not in found and weak:
        found["serial"] = weak.pop(0)[2]
    return Record(
        number=number,
        place=place,
        raw=raw,
        name=found.get("name"),
        serial=found.get("serial"),
        also=(*((heading, value) for _, heading, value in weak), *labels),
        unknown=tuple(unknown),
        common_name=found.get("common_name"),
        device_type=found.get("device_type"),
        certificate=certificate.encode() if certificate else None,
        request=found["request"].encode() if "request" in found else None,
        must_match=must_match,
    )


def private_key_refusal() -> RefusedError:
    """Return the refusal of a row that contains a private key."""
    return RefusedError(
        "contains a private key: anyone who saw the list can impersonate the device",
        "delete the key from the list and inform its sender: that device needs a new key and certificate",
    )


def _agree(kind: str, one: str, other: str) -> bool:
    if kind in (*MATERIAL, "common_name", "device_type"):
        return "".join(one.split()) == "".join(other.split())
    return is_same(one, other)


_LONGEST = 160
"""Characters of a value that can be an identity: a thing's name has 128 at most, and may be spelt with blanks."""
_VALUE = re.compile(r"[^,;|\t\r\n\"'{}\[\]]+")
_ENDINGS = re.compile(r"(?:[-_.](?:certificate|cert|crt|csr|pem|req|der|cer))+$", re.IGNORECASE)
_BASE64 = re.compile(rb"(?:MI|LS0tLS1CRUdJTi)[A-Za-z0-9+/\s]{40,}")
"""DER, or PEM, in base64."""
_COMMON_NAME = re.compile(rb"\x06\x03\x55\x04\x03[\x0c\x13\x14\x16]([\x01-\x7f])", re.DOTALL)
"""The object identifier 2.5.4.3, a string type, and the length of what follows (X.520, X.690)."""


def identities_of(entry: Record | Row) -> tuple[str, ...]:
    """Return every identity of an entry that was read, the common name of its certificate or CSR too."""
    if isinstance(entry, Row):
        names = [entry.material.common_name]
    else:
        names = [entry.common_name, *common_names(entry.certificate or b""), *common_names(entry.request or b"")]
    values = (entry.name, entry.serial, *names, *(value for _, value in (*entry.also, *entry.unknown)))
    return tuple(value for value in values if value)


def is_named(entry: Record | Row) -> bool:
    """Return whether an entry gives a name or serial that is meant to be a planned thing's."""
    return entry.must_match or any(is_name(heading) for heading, _ in entry.also)


def fault_of(entry: Record | Row, reason: str, remedy: str, *, spoils: int | None = None) -> Fault:
    """Refuse an entry that was read, with the identities that it gives."""
    return Fault(
        number=entry.number,
        place=entry.place,
        reason=reason,
        remedy=remedy,
        raw=entry.raw,
        spoils=spoils,
        identities=identities_of(entry),
        is_named=is_named(entry),
    )


def possible_identities(raw: bytes, place: str) -> tuple[tuple[str, ...], bool]:
    """Return possible identities in the bytes of an unreadable entry, and whether one is under a name's heading."""
    parts = [part.strip() for part in _VALUE.findall(raw.decode(errors="replace"))]
    if place.startswith("file "):
        parts.append(_ENDINGS.sub("", place.removeprefix("file ")))
    values = [part for part in parts if part and len(part) <= _LONGEST]
    return (*values, *common_names(raw)), any(map(is_name, values))


def common_names(given: bytes) -> Iterator[str]:
    """Yield the common names in certificates and CSRs, however damaged: DER, PEM, or base64 of either."""
    yield from _common_names_of(given)
    for found in _BASE64.finditer(given.replace(b"\\r", b"").replace(b"\\n", b"\n")):
        text = b"".join(found[0].split())
        content = base64.b64decode(text[: len(text) // 4 * 4])
        yield from common_names(content) if content.startswith(b"-----BEGIN") else _common_names_of(content)


def _common_names_of(der: bytes) -> Iterator[str]:
    for found in _COMMON_NAME.finditer(der):
        yield der[found.end() : found.end() + found[1][0]].decode(errors="replace")
