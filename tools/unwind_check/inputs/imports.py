# SPDX-License-Identifier: Apache-2.0
# ruff: noqa
import time
import json, ast, re

ast.parse("\n".join(f"def f{i}(a, b=[{i}]):\n return (a + {i}) * b[0]" for i in range(60)))
json.loads(json.dumps([{"k%d" % i: [i] * 5} for i in range(200)]))
import sqlite3, ssl, decimal, hashlib, xml.etree.ElementTree as tree

base = sqlite3.connect(":memory:")
base.execute("create table t (a integer primary key, b text)")
base.executemany("insert into t values (?, ?)", [(i, "x" * i) for i in range(200)])
base.execute("select b, count(*) from t group by length(b) % 7 order by 2").fetchall()
ssl.create_default_context()
tree.fromstring("<a>" + "<b c='d'>e</b>" * 300 + "</a>")
hashlib.sha256(str(decimal.Decimal(2) ** 200).encode())
