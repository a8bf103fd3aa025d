"""The flags of sources, and which of them fit together."""

from pathlib import Path

import pytest

from producer.config import ProducerConfig
from producer.sources.config import SourceConfig
from producer.ticket_producer import build_parser
from runtime.errors import SettingError

SQL = ["--source=mysql://reader:pw@db:3306/crm?ssl_ca=x", "--source-name=crm", "--map=ticket_id=id"]
HTTP = ["--source=https://x:y@desk.example/api/tickets?key=1", "--source-name=desk", "--map=ticket_id=id"]


def config(*flags: str, environ: dict[str, str] | None = None) -> ProducerConfig:
    return ProducerConfig.from_sources(build_parser().parse_args(flags), environ or {}, Path("/nowhere/.env"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    file = tmp_path / "Export du 31 janvier.csv"
    file.touch()
    return f"--source={file}"


def test_only_the_flag_paces_real_tickets(file: str) -> None:
    assert config(environ={"PRODUCER_RATE": "7"}).rate == 7
    assert config(file, environ={"PRODUCER_RATE": "7"}).rate == 0
    assert config(file, "--rate=3", environ={"PRODUCER_RATE": "7"}).rate == 3


def test_the_name_is_that_of_the_file_unless_it_is_given(file: str) -> None:
    assert config(file).source.known_as == "Export-du-31-janvier.csv"
    assert config(file, "--source-name=crm").source.known_as == "crm"
    assert config("--source=-").source.known_as == "stdin"


def test_rules_are_what_the_flags_say(file: str) -> None:
    rules = config(
        file,
        "--map=ticket_id=Id=1",
        "--value=request_type: Facturation : x =billing",
        "--default=priority=low",
        "--timezone=Europe/Paris",
    ).source.rules
    assert rules.columns == {"ticket_id": "Id=1"}
    assert rules.values == {("request_type", "facturation : x"): "billing"}
    assert rules.defaults == {"priority": "low"}
    assert str(rules.zone) == "Europe/Paris"
    assert rules.numbered


def test_an_encoding_has_one_name(file: str) -> None:
    for name, expected in (("utf16", "utf-16"), ("UTF_16_LE", "utf-16-le"), ("windows-1252", "cp1252")):
        assert config(file, f"--encoding={name}").source.encoding == expected


def test_a_url_is_shown_without_login_and_query() -> None:
    database = config(*SQL, "--table=t", "--watermark=w")
    assert database.source.shown == "mysql://db:3306/crm"
    assert config(*HTTP).source.shown == "https://desk.example/api/tickets"
    assert "pw" not in database.describe()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--follow"], "--follow has no effect with --source random"),
        (["--map=ticket_id=Id"], "--map has no effect with --source random"),
        (["--source=/nowhere.csv"], "--source must be random, - for standard input, a file that can be read"),
        (["--source=ftp://x/y"], "--source must begin with mysql://, mariadb://, http:// or https://"),
        (["--source=-", "--follow"], "--follow has no effect with --source -"),
        (["--source=-", "--workers=2"], "--workers has no effect with --source -"),
        (["--source=-", "--seed=2"], "--seed has no effect with --source -"),
        (["--source=-", "--invalid-rate=0.1"], "--invalid-rate has no effect with --source -"),
        (["--source=-", "--table=t"], "--table has no effect with --source -"),
        (["--source=-", "--map=Id=ticket_id"], "--map must be FIELD=COLUMN with a field of ticket_id, client_id,"),
        (["--source=-", "--value=priority=low"], "--value must be FIELD:FOUND=VALUE, e.g. request_type:Facturation="),
        (
            ["--source=-", "--value=priority:P1=urgent"],
            "--value must set priority to one of low, medium, high",
        ),
        (["--source=-", "--default=priority=urgent"], "--default must set priority to one of"),
        (["--source=-", "--timezone=CEST"], "--timezone must be the name of a time zone, e.g. Europe/Paris"),
        (["--source=-", "--encoding=latin-99"], "--encoding must be an encoding that Python knows, e.g. cp1252"),
        (["--source=-", "--delimiter=ab"], "--delimiter must be one character or tab"),
        (["--source=-", "--source-name=a/b"], "--source-name must be 1 to 100 letters"),
        ([SQL[0]], "--source mysql://db:3306/crm needs a --source-name, e.g. --source-name helpdesk"),
        ([*SQL[:2]], "need an id that never changes; name its column, e.g. --map ticket_id=id"),
        ([*SQL], "a database needs either --table or --query"),
        ([*SQL, "--table=t", "--query=q", "--watermark=w"], "a database needs either --table or --query"),
        ([*SQL, "--table=t"], "a database needs --watermark: a column"),
        ([*SQL, "--table=t", "--watermark=w", "--items=x"], "--items has no effect with --source mysql://db:3306/crm"),
        ([*HTTP, "--next-link=a", "--cursor=b"], "--next-link and --cursor exclude each other"),
        ([*HTTP, "--watermark=w"], "--watermark has no effect with --source https://desk.example/api/tickets"),
        (["--invalid-rate=0.6", "--duplicate-rate=0.5"], "must be at most 1 together"),
        (["--invalid-rate=2"], "--invalid-rate must be a number from 0 to 1, e.g. 0.01, found '2'"),
        (["--answers=/x", "--workers=2"], "by one worker only; leave out --workers"),
    ],
    ids=str,
)
def test_flags_that_do_not_fit_together_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(SettingError) as error:
        config(*flags)
    assert message in str(error.value)
    assert "pw" not in str(error.value)


def test_a_compressed_file_cannot_be_followed(tmp_path: Path) -> None:
    packed = tmp_path / "x.csv.gz"
    packed.touch()
    with pytest.raises(SettingError, match="which is compressed; follow the plain file"):
        SourceConfig(source=str(packed), follow=True)
