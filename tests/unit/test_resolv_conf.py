from __future__ import annotations

from pathlib import Path

from kubecore.resolv_conf import ResolvConf


def resolvers(tmp_path: Path, text: str) -> tuple[str, ...]:
    file = tmp_path / "resolv.conf"
    file.write_text(text)
    return ResolvConf.read(file).resolvers()


def test_name_servers_are_taken_in_their_order(tmp_path: Path) -> None:
    text = "# made by hand\nsearch example.org\nnameserver 192.0.2.1\nnameserver fd00::53 # second\noptions ndots:1\n"
    assert resolvers(tmp_path, text) == ("192.0.2.1", "fd00::53")


def test_only_as_many_count_as_the_c_library_asks(tmp_path: Path) -> None:
    text = "".join(f"nameserver 192.0.2.{number}\n" for number in (1, 1, 2, 3, 4))
    assert resolvers(tmp_path, text) == ("192.0.2.1", "192.0.2.2", "192.0.2.3")


def test_what_is_no_address_or_needs_a_zone_is_left_out(tmp_path: Path) -> None:
    text = "nameserver dns.example\nnameserver fe80::1%eth0\nnameserver\n;nameserver 192.0.2.9\nnameserver 192.0.2.1\n"
    assert resolvers(tmp_path, text) == ("192.0.2.1",)


def test_a_missing_file_names_nobody(tmp_path: Path) -> None:
    assert ResolvConf.read(tmp_path / "none") == ResolvConf()


def test_the_last_search_path_counts_and_options_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("domain old.example\nsearch corp.example. . example.org\noptions ndots:2 rotate\n")
    found = ResolvConf.read(file)
    assert found.searches == ("corp.example", "example.org")
    assert found.options == {"ndots": "2", "rotate": None}
