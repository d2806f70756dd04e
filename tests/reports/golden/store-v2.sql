BEGIN TRANSACTION;
CREATE TABLE artifacts (
    artifact_id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    facts TEXT NOT NULL,
    checksum BLOB NOT NULL,
    UNIQUE (key, sha256)
);
INSERT INTO "artifacts" VALUES(1,'39460e9f24e17f9723fd47c20f00fdda5580ff7bb769b60b4cb37bda4c0f65c0','16a628f00f86067c9ea53662ec7f1fd5a67e54dced8051cef547ef28b524d610','{"batch_size":1,"batchnorms_left":0,"build":{},"conversion_ns":2600000000,"facts":{},"flavour":"","folded":{"bn_into_next":1,"conv_bn":3},"fused":true,"gmacs":0.2,"inputs":[{"dtype":"float32","name":"input","shape":[1,384,14,14]}],"key":"39460e9f24e17f9723fd47c20f00fdda5580ff7bb769b60b4cb37bda4c0f65c0","kind":"onnx","model":{"name":"block/ncb","options":{"in_channels":384},"resolution":14,"weights":"random:0"},"modules":{},"op_counts":{"Add":2,"Conv":5,"Relu":2},"outputs":[{"dtype":"float32","name":"output","shape":[1,384,14,14]}],"params_m":1.0,"path":"artifacts/39460e9f24e17f97.onnx","precision":"fp32","seed":0,"sha256":"16a628f00f86067c9ea53662ec7f1fd5a67e54dced8051cef547ef28b524d610","size_bytes":4002048,"source_key":"","steps":[{"duration_ns":41000000,"first_divergence":"","name":"fused","note":"BatchNorm into convolutions","parity":{"cosine":1.0,"least_cosine":-1.0,"max_absolute":2.1e-06,"max_relative":3e-07,"tolerance":0.0001,"top1_agreement":1.0},"tool":"reparameterize"},{"duration_ns":2100000000,"first_divergence":"","name":"exported","note":"opset 20","parity":{"cosine":0.9999998,"least_cosine":-1.0,"max_absolute":3.3e-06,"max_relative":6.2e-07,"tolerance":0.0001,"top1_agreement":1.0},"tool":"torch.onnx dynamo 2.14.1"},{"duration_ns":310000000,"first_divergence":"","name":"simplified","note":"61 to 34 nodes","parity":{"cosine":0.9999998,"least_cosine":-1.0,"max_absolute":3.3e-06,"max_relative":6.2e-07,"tolerance":0.0001,"top1_agreement":1.0},"tool":"onnxsim 0.8.1"}],"target":"","tensors":"artifacts/39460e9f24e17f97.npz","tensors_sha256":"e51fce73a237929beea7d14a8f7d74fedfd102cf0d540fe3a7f487120cb40fbc","toolchain":{"onnx":"1.23.0","torch":"2.14.1"}}',X'291619337EC07ED1CB9CB40DF92F28E9248D42E0F93419EFFCD36BCC262BB4A9');
CREATE TABLE cases (
    case_id TEXT PRIMARY KEY,
    facts TEXT NOT NULL,
    checksum BLOB NOT NULL
);
INSERT INTO "cases" VALUES('cc4dc73f215cd84a','{"backend":"onnxruntime","batch_size":1,"compute_unit":"","device":"cpu","fused":true,"model":{"name":"block/ncb","options":{"in_channels":384},"resolution":14,"weights":"random:0"},"precision":"fp32","threads":1}',X'BBBF9FCF8F966F2375CA57ECC067FFDD4C6A1298465A463AB8118BFF65F422D7');
INSERT INTO "cases" VALUES('03784bf06e663133','{"backend":"onnxruntime","batch_size":1,"compute_unit":"","device":"cpu","fused":true,"model":{"name":"block/ntb","options":{"in_channels":384},"resolution":14,"weights":"random:0"},"precision":"fp32","threads":1}',X'3618C774F2518474DBBAB31C4139C105191362E27FEEC3D0D0DFB21632EEC398');
CREATE TABLE parts (
    record_id INTEGER NOT NULL REFERENCES records,
    name TEXT NOT NULL,
    samples BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (record_id, name)
);
INSERT INTO "parts" VALUES(1,'h2d',X'E803000000000000D007000000000000B80B000000000000A00F00000000000088130000000000007017000000000000',X'58707484AAFD499E4D5567F3559096B5ABF3354963695BB25778F3153968658B');
INSERT INTO "parts" VALUES(2,'h2d',X'E803000000000000D007000000000000B80B000000000000A00F00000000000088130000000000007017000000000000',X'E2B2A9982BA4BDE5FC39C2239A4EA0B743385915A4C14B6D7839120E9E78EE0B');
CREATE TABLE protocols (
    protocol_id TEXT PRIMARY KEY,
    facts TEXT NOT NULL,
    checksum BLOB NOT NULL
);
INSERT INTO "protocols" VALUES('bd8ad869e29f','{"backend":"onnxruntime","clock":"host","compute_unit":"","cuda_graph":false,"device":"cpu","inputs":"normal(0, 1), 4 tensors in rotation, seed 0","min_sample_ns":1000000,"options":{},"queue_depth":1,"runtime":"onnxruntime 1.31.0 graph_optimization=all","sync":"blocking call","threads":1,"timed":"inference, inputs already in memory","transfers":"none","warmup":"0.2 s, then until two windows agree, 3 s at most"}',X'4D8D42FA575D601505E00666677B4D8A16614A63BAB0B3B9EA5C516933B35505');
CREATE TABLE records (
    record_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL,
    case_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('round', 'failure')),
    round_index INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    artifact_id INTEGER REFERENCES artifacts,
    protocol_id TEXT REFERENCES protocols,
    facts TEXT NOT NULL,
    samples BLOB NOT NULL,
    warmup BLOB NOT NULL,
    checksum BLOB NOT NULL,
    UNIQUE (run_id, case_id, kind, round_index, attempt),
    FOREIGN KEY (run_id, case_id) REFERENCES run_cases (run_id, case_id)
);
INSERT INTO "records" VALUES(1,1,'cc4dc73f215cd84a','round',0,0,1,'bd8ad869e29f','{"attempt":0,"environment":{"after":{"load":0.6},"before":{"load":0.4}},"flags":[],"layers":{},"loop_count":1,"output_error":3.1e-07,"part_names":["h2d"],"peak_device_bytes":0,"peak_rss_bytes":182000000,"phases":{"import_ns":92000000,"load_ns":31000000,"process_ns":492013682,"start_ns":38000000,"timed_ns":12013682,"verify_ns":12000000,"warmup_ns":210000000},"position":3,"round_index":0,"started_at_ns":1763689800000000000,"steady":true}',X'4B901E00000000001F781E0000000000C5C01E0000000000578E1E000000000071521E000000000079A61E0000000000',X'00D43000000000003DA32B000000000024EB270000000000EF402500000000001C58230000000000DAF9210000000000E2FE2000000000000E4B20000000000034CA1F0000000000E06D1F0000000000B82B1F000000000051FC1E0000000000',X'0D3491A0CA70421E54089E8E47F64A0E603B0612061AB43D597DE44FB5CEBA8B');
INSERT INTO "records" VALUES(2,1,'cc4dc73f215cd84a','round',1,0,1,'bd8ad869e29f','{"attempt":0,"environment":{"after":{"load":0.6},"before":{"load":0.4}},"flags":[],"layers":{},"loop_count":1,"output_error":3.1e-07,"part_names":["h2d"],"peak_device_bytes":0,"peak_rss_bytes":182000000,"phases":{"import_ns":92000000,"load_ns":31000000,"process_ns":491969168,"start_ns":38000000,"timed_ns":11969168,"verify_ns":12000000,"warmup_ns":210000000},"position":15,"round_index":1,"started_at_ns":1763689860000000000,"steady":true}',X'288E1E00000000001D291E00000000003C381E0000000000BA241E0000000000D44E1E00000000007F3F1F0000000000',X'00D43000000000003DA32B000000000024EB270000000000EF402500000000001C58230000000000DAF9210000000000E2FE2000000000000E4B20000000000034CA1F0000000000E06D1F0000000000B82B1F000000000051FC1E0000000000',X'28BF46FC1FE7269BB11E5D34D4D24E4AF6F932F2D134F01276FFE7ACC19DF603');
INSERT INTO "records" VALUES(3,1,'03784bf06e663133','failure',0,0,NULL,NULL,'{"advice":"","built":false,"detail":{},"kind":"crashed","message":"signal 11","round_index":0,"signal":11}',X'',X'',X'24F4DD46A458D5EC28D747DB5947E7395AD7BB7BFF708393ECAF764D42DB784B');
CREATE TABLE run_cases (
    run_id INTEGER NOT NULL REFERENCES runs,
    ordinal INTEGER NOT NULL,
    case_id TEXT NOT NULL REFERENCES cases,
    artifact_id INTEGER REFERENCES artifacts,
    PRIMARY KEY (run_id, case_id),
    UNIQUE (run_id, ordinal)
);
INSERT INTO "run_cases" VALUES(1,0,'cc4dc73f215cd84a',1);
INSERT INTO "run_cases" VALUES(1,1,'03784bf06e663133',NULL);
CREATE TABLE runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    suite TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    seed INTEGER NOT NULL,
    started_at_ns INTEGER NOT NULL,
    finished_at_ns INTEGER,
    command TEXT NOT NULL,
    config TEXT NOT NULL,
    environment TEXT NOT NULL,
    checksum BLOB NOT NULL
);
INSERT INTO "runs" VALUES(1,'blocks','plan',7,1700000000000000000,1700000000000000000,'python bench.py --suite blocks','{"timing":{"target":0.01}}','{"cpu":{"affinity":[0,1,2,3,4,5,6,7],"architecture":"x86_64","caches":{"L1 Data":"48K","L2 Unified":"2048K","L3 Unified":"36864K"},"features":["avx2","avx512f","avx512_vnni"],"governor":"performance","khz_max":2600000,"khz_min":800000,"logical_cores":8,"model":"Example Server CPU @ 2.60GHz","physical_cores":4,"smt_active":true,"turbo_off":true},"fingerprint":"5e1f0c7a9b3d2468","gpus":[],"memory":{"limit_bytes":null,"total_bytes":33554432000},"packages":{"onnx":"1.23.0","onnxruntime":"1.31.0","torch":"2.14.1"},"python":{"implementation":"CPython","version":"3.11.9"},"revision":{"commit":"0123456789abcdef0123456789abcdef01234567","dirty":false},"system":{"container":false,"kernel":"Linux 6.1.0","os":"Debian GNU/Linux 12 (bookworm)"}}',X'2397C3F5F6206F0305E96D2D1D99F60B1C495D95A68328609129B6C143A9E0FC');
CREATE TABLE sessions (
    session_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL REFERENCES runs,
    started_at_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    ledger TEXT NOT NULL,
    checksum BLOB NOT NULL
);
CREATE INDEX runs_by_plan ON runs (plan_digest);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',1);
INSERT INTO "sqlite_sequence" VALUES('artifacts',1);
INSERT INTO "sqlite_sequence" VALUES('records',3);
COMMIT;
