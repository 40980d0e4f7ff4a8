import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from otel_novu.mongo_url import check_mongo_url, database_name, parse_mongo_url, safe_hosts

SECRET = "s3cretW0rd"

GOOD = [
    "mongodb://localhost",
    "mongodb://localhost/",
    "mongodb://localhost:27017/novu-db",
    "mongodb://root:secret@mongodb:27017/novu-db?authSource=admin",
    "mongodb://CN=me@h/?authMechanism=MONGODB-X509&tls=true",
    "mongodb://us%3Aer:p%40ss%2Fw%25@h/novu_db",
    "mongodb://a:1,b:2,c/novu-db?replicaSet=rs0",
    "mongodb://a_b.novu_default:27017",
    "mongodb://h?tls=true",
    "mongodb://h/?tls=true&tlsInsecure=true",
    "mongodb://h/x?retryWrites=true&w=majority",
    "mongodb://h/x?a=1;b=2",
    "mongodb://[::1]",
    "mongodb://[::1]:27017/x",
    "mongodb://[fe80::1%25eth0]:27017/x",
    "mongodb://127.0.0.1:65535",
    "mongodb://h:1",
    "mongodb://%2Ftmp%2Fmongodb-27017.sock/x",
    "mongodb://u:p@%2Ftmp%2Fmongodb-27017.sock",
    "mongodb://h/x?directConnection=true",
    "mongodb://h/x?loadBalanced=true",
    "mongodb://h/x?ssl=true&tls=true",
    "mongodb://h/x?serverSelectionTimeoutMS=abc",
    "mongodb://h/x?unknownOption=1",
    "mongodb://h/x?appName=me@work",
    "mongodb://u:p@h?appName=me@work",
    "mongodb://h/d%C3%A4ta",
]

# Read without DNS only by us; pymongo looks these up at once.
GOOD_SRV = [
    "mongodb+srv://u:p@cluster0.example.mongodb.net/novu-db?retryWrites=true&w=majority",
    "mongodb+srv://cluster0.example.org",
    "mongodb+srv://cluster0.example.org/?srvMaxHosts=3&srvServiceName=x",
]

BAD = [
    "",
    " ",
    "localhost",
    "localhost:27017",
    "http://localhost",
    "MONGODB://localhost",
    "mongodb:/localhost",
    "mongodb:localhost",
    "mongodb://",
    "mongodb:///novu-db",
    "mongodb://?tls=true",
    "mongodb://,",
    "mongodb://a,,b",
    "mongodb://a,",
    "mongodb:// ",
    "mongodb://a b",
    " mongodb://h",
    "mongodb://h ",
    "mongodb://h\n",
    f"mongodb://root:{SECRET}@",
    f"mongodb://:{SECRET}@h",
    "mongodb://root@h",
    "mongodb://root:@h",
    "mongodb://root@h/?authMechanism=SCRAM-SHA-256",
    f"mongodb://@h/{SECRET}",
    f"mongodb://root:{SECRET}@h:99999/novu-db",
    f"mongodb://root:{SECRET}@h:0/novu-db",
    f"mongodb://root:{SECRET}@h:-1/novu-db",
    f"mongodb://root:{SECRET}@h:/novu-db",
    f"mongodb://root:{SECRET}@h:port/novu-db",
    f"mongodb://root:{SECRET}@h:²7017/novu-db",
    f"mongodb://root:{SECRET}@h:٢٧٠١٧/novu-db",
    f"mongodb://root:{SECRET}@h:{'9' * 5000}/novu-db",
    f"mongodb://root:{SECRET}@h:1:2/novu-db",
    f"mongodb://root:{SECRET}@h:27017 /novu-db",
    f"mongodb://root:{SECRET}/x@h/novu-db",
    f"mongodb://root:12/{SECRET}@h/novu-db",
    f"mongodb://root:12/{SECRET}@h",
    f"mongodb://root:12?{SECRET}=1@h",
    f"mongodb://root:{SECRET}@x@h/novu-db",
    f"mongodb://root:{SECRET}:x@h/novu-db",
    f"mongodb://root:{SECRET}%@h/novu-db",
    f"mongodb://root:{SECRET}%zz@h/novu-db",
    f"mongodb://root:{SECRET}?x@h/novu-db",
    f"mongodb://root:{SECRET}#x?@h/novu-db",
    f"mongodb://root:{SECRET}@h/a/b",
    f"mongodb://root:{SECRET}@h/a b",
    f"mongodb://root:{SECRET}@h/a.b",
    f"mongodb://root:{SECRET}@h/a%2Fb",
    f"mongodb://root:{SECRET}@h/$a",
    f"mongodb://root:{SECRET}@h/" + 'a"b',
    f"mongodb://root:{SECRET}@h/a\\b",
    f"mongodb://root:{SECRET}@h/a%00b",
    f"mongodb://root:{SECRET}@h/{'a' * 64}",
    f"mongodb://root:{SECRET}@h/x?{SECRET}",
    f"mongodb://root:{SECRET}@h/x?a={SECRET}=1",
    f"mongodb://root:{SECRET}@h/x?a={SECRET}&b=1;c=2",
    f"mongodb://root:{SECRET}@h/x?a={SECRET}&",
    f"mongodb://root:{SECRET}@h/x?a={SECRET} b",
    f"mongodb://root:{SECRET}@h/x?tls={SECRET}",
    f"mongodb://root:{SECRET}@h/x?tlsInsecure=yes",
    f"mongodb://root:{SECRET}@h/x?tls=true&ssl=false",
    f"mongodb://root:{SECRET}@h/x?tlsInsecure=true&tlsAllowInvalidCertificates=true",
    f"mongodb://root:{SECRET}@a,b/x?directConnection=true",
    f"mongodb://root:{SECRET}@a,b/x?loadBalanced=true",
    f"mongodb://root:{SECRET}@h/x?loadBalanced=true&directConnection=true",
    f"mongodb://root:{SECRET}@h/x?loadBalanced=true&replicaSet={SECRET}",
    f"mongodb://root:{SECRET}@h/x?srvMaxHosts=2",
    f"mongodb://root:{SECRET}@h/x?srvServiceName={SECRET}",
    f"mongodb://root:{SECRET}@[::1/x",
    f"mongodb://root:{SECRET}@[::1]x/x",
    f"mongodb://root:{SECRET}@[::1]:x/x",
    f"mongodb://root:{SECRET}@[{SECRET}]/x",
    f"mongodb://root:{SECRET}@::1/x",
    f"mongodb://root:{SECRET}@h%20x/x",
    f"mongodb://root:{SECRET}@/tmp/mongodb-27017.sock/x",
    f"mongodb+srv://root:{SECRET}@a,b/x",
    f"mongodb+srv://root:{SECRET}@a.example.org:27017/x",
    f"mongodb+srv://root:{SECRET}@127.0.0.1/x",
    f"mongodb+srv://root:{SECRET}@[::1]/x",
    f"mongodb+srv://root:{SECRET}@a.example.org/x?directConnection=true",
]


def driver_accepts(url: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            client = MongoClient[dict[str, object]](url, connect=False)
            client.get_default_database("x")
        except (PyMongoError, ValueError):
            return False
        client.close()
        return True


@pytest.mark.parametrize("url", GOOD)
def test_a_good_url_is_accepted_by_the_driver_too(url: str) -> None:
    assert check_mongo_url(url) is None
    assert driver_accepts(url)


@pytest.mark.parametrize("url", GOOD_SRV)
def test_a_url_with_an_srv_record_is_judged_without_dns(url: str) -> None:
    assert check_mongo_url(url) is None
    assert parse_mongo_url(url).srv


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_refused_with_a_clause_that_holds_no_secret(url: str) -> None:
    clause = check_mongo_url(url)
    assert clause is not None
    assert clause.startswith("it")
    assert not clause.endswith(".")
    assert "\n" not in clause
    assert SECRET.lower() not in clause.lower()


@pytest.mark.parametrize("port", ["99999", "0", "65536"])
def test_the_clause_of_a_bad_port_says_which_ports_there_are(port: str) -> None:
    assert check_mongo_url(f"mongodb://h:{port}") == "its port is no number from 1 to 65535"


def test_a_password_with_a_bare_character_is_told_how_to_be_written() -> None:
    assert "percent-encoded" in str(check_mongo_url("mongodb://root:a/b@h/novu-db"))
    assert "percent-encoded" in str(check_mongo_url("mongodb://root:a@b@h/novu-db"))
    assert "percent-encoded" in str(check_mongo_url("mongodb://root:a:b@h/novu-db"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("mongodb://h", "novu-db"),
        ("mongodb://h/", "novu-db"),
        ("mongodb://h?tls=true", "novu-db"),
        ("mongodb://h/novu_db", "novu_db"),
        ("mongodb://u:p@a,b:2/novu%2Ddb?x=1", "novu-db"),
    ],
)
def test_the_database_is_the_path_or_else_that_of_novu(url: str, name: str) -> None:
    assert database_name(url) == name


def test_hosts_are_told_without_user_password_and_options() -> None:
    url = f"mongodb://root:{SECRET}@a,b:2,[::1]:3/novu-db?authSource={SECRET}"
    assert safe_hosts(url) == "a,b:2,[::1]:3"


@given(
    url=st.builds(
        "{}{}".format,
        st.sampled_from(["mongodb://", "mongodb://u:p@", "mongodb://h", "mongodb://h/x?"]),
        st.text(alphabet='ab1:@/?#[]%.,;&= $-_\\"2eF\n', max_size=14),
    )
)
def test_what_the_driver_refuses_is_refused_here(url: str) -> None:
    if check_mongo_url(url) is None:
        assert driver_accepts(url)


@given(
    user=st.text(min_size=1, max_size=8),
    password=st.text(min_size=1, max_size=8),
    host=st.from_regex(r"[a-z][a-z0-9.-]{0,10}[a-z0-9]", fullmatch=True),
    port=st.integers(1, 65535),
)
def test_a_user_and_password_that_are_encoded_are_accepted(
    user: str, password: str, host: str, port: int
) -> None:
    def encoded(text: str) -> str:
        return "".join(f"%{byte:02X}" for byte in text.encode(errors="replace"))

    url = f"mongodb://{encoded(user)}:{encoded(password)}@{host}:{port}/novu-db"
    assert check_mongo_url(url) is None
    assert safe_hosts(url) == f"{host}:{port}"
