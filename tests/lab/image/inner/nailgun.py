"""Nailgun's API as the fuel client needs it (version, tasks, nodes) and keystone's v2.0 tokens, answered from PostgreSQL.

The database password is read from astute.yaml at every request, as a real nailgun is configured from it: a restore that
brings the database back without its credentials is found out here.
"""
import datetime, json, re, secrets, socket, struct, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = ("172.17.0.1", 5432)
TOKENS = set()


def astute(section, key):
    text = open("/etc/fuel/astute.yaml").read()
    body = re.search(r'^"?%s"?:\n((?:  .*\n)+)' % section, text, re.M).group(1)
    return re.search(r'^  "?%s"?: "?([^"\n]*)' % key, body, re.M).group(1)


def query(database, sql):
    """Rows of one statement over the simple query protocol."""
    s = socket.create_connection(DATABASE, 10)
    s.settimeout(10)
    stream = s.makefile("rb")

    def send(kind, body):
        s.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    start = b"".join(x.encode() + b"\0" for x in ("user", "nailgun", "database", database)) + b"\0"
    send(b"", struct.pack("!I", 196608) + start)
    rows = []
    while True:
        kind = stream.read(1)
        if not kind:
            raise RuntimeError("the database closed the connection")
        body = stream.read(struct.unpack("!I", stream.read(4))[0] - 4)
        if kind == b"R" and struct.unpack("!I", body[:4])[0] == 3:
            send(b"p", astute("postgres", "nailgun_password").encode() + b"\0")
        elif kind == b"E":
            raise RuntimeError(body.replace(b"\0", b" ").decode())
        elif kind == b"D":
            count, at, row = struct.unpack("!H", body[:2])[0], 2, []
            for _ in range(count):
                size = struct.unpack("!i", body[at:at + 4])[0]
                at += 4
                row.append(None if size < 0 else body[at:at + size].decode())
                at += max(size, 0)
            rows.append(row)
        elif kind == b"Z":
            if sql is None:
                s.close()
                return rows
            send(b"Q", sql.encode() + b"\0")
            sql = None


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, code, body):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def endpoints(self):
        base = "http://%s/keystone/v2.0" % self.headers.get("Host")
        return [{"id": "e1", "region": "RegionOne", "publicURL": base, "adminURL": base, "internalURL": base}]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if not self.path.rstrip("/").endswith("/v2.0/tokens"):
            return self.answer(404, {"message": "not found"})
        auth = body.get("auth", {})
        given = auth.get("passwordCredentials", {})
        known = auth.get("token", {}).get("id") in TOKENS
        if not known and [given.get("username"), given.get("password")] not in query("keystone", "select name, password from users"):
            return self.answer(401, {"error": {"message": "The request you have made requires authentication.", "code": 401, "title": "Unauthorized"}})
        token = secrets.token_hex(16)
        TOKENS.add(token)
        expires = (datetime.datetime.utcnow() + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.answer(200, {"access": {
            "token": {"id": token, "expires": expires, "issued_at": "2014-10-01T00:00:00.000000", "tenant": {"id": "t1", "name": "admin", "enabled": True}},
            "user": {"id": "u1", "name": "admin", "username": "admin", "roles": [{"name": "admin"}], "roles_links": []},
            "serviceCatalog": [{"type": "identity", "name": "keystone", "endpoints_links": [], "endpoints": self.endpoints()}],
            "metadata": {"is_admin": 0, "roles": ["r1"]}}})

    def do_GET(self):
        path = self.path.split("?")[0].rstrip("/")
        if path in ("/keystone/v2.0", "/keystone"):
            return self.answer(200, {"version": {"id": "v2.0", "status": "stable", "updated": "2014-04-17T00:00:00Z",
                                                 "links": [{"rel": "self", "href": "http://%s/keystone/v2.0/" % self.headers.get("Host")}], "media-types": []}})
        if path == "/api/v1/version":
            release = re.search(r'release: "?([^"\n]+)', open("/etc/fuel/version.yaml").read()).group(1)
            return self.answer(200, {"release": release, "api": "1.0", "auth_required": True, "feature_groups": ["mirantis"], "production": "docker", "build_number": "11"})
        if self.headers.get("X-Auth-Token") not in TOKENS:
            return self.answer(401, "Unauthorized")
        try:
            if path == "/api/v1/tasks":
                rows = query("nailgun", "select id, cluster_id, uuid, name, result, message, status, progress from tasks order by id")
                return self.answer(200, [{"id": int(r[0]), "cluster": r[1] and int(r[1]), "uuid": r[2], "name": r[3], "result": json.loads(r[4]),
                                          "message": r[5], "status": r[6], "progress": int(r[7])} for r in rows])
            if path == "/api/v1/nodes":
                rows = query("nailgun", "select id, name, mac, online, cluster_id from nodes order by id")
                return self.answer(200, [{"id": int(r[0]), "name": r[1], "mac": r[2], "online": r[3] == "t", "cluster": r[4] and int(r[4]), "status": "ready",
                                          "ip": "10.20.0.%s" % r[0], "roles": ["controller"], "pending_roles": [], "group_id": 1} for r in rows])
        except Exception as error:
            print("query failed: %s" % error, file=sys.stderr, flush=True)
            return self.answer(500, "Internal Server Error")
        self.answer(404, {"message": "Not found"})


ThreadingHTTPServer(("0.0.0.0", 8000), Api).serve_forever()
