// Names, creation, and what may not be opened: refusals with their messages.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/vfs/shim_world.h"
#include "vfs/fork.h"
#include "vfs/names.h"

namespace shim_test {
namespace {

using base::Code;

bool mentions(const std::string& text) { return base::to_string(vfs::last_error()).find(text) != std::string::npos; }

TEST(ShimOpen, NewName_CreatesTheDatabaseInTheNodesDirectory) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.open_code(), SQLITE_OK);
  EXPECT_EQ(db.rows("SELECT file FROM pragma_database_list"), world.path("app.db"));
  EXPECT_FALSE(std::filesystem::exists("app.db"));
  EXPECT_EQ(db.rows("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(db.rows("PRAGMA encoding"), "UTF-8");
}

TEST(ShimOpen, EveryWayToNameIt_IsTheSameDatabase) {
  World world;
  Db first("app.db");
  ASSERT_EQ(first.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  for (const std::string& uri :
       {std::string("file:./app.db?vfs=hiqlite"), "file:" + world.path("app.db") + "?vfs=hiqlite",
        std::string("file:app.db?vfs=hiqlite&node=1&mode=rw")}) {
    Db db(uri);
    EXPECT_EQ(db.rows("SELECT x FROM t"), "1") << uri;
    EXPECT_TRUE(vfs::connection_info(db.get()).managed) << uri;
  }
}

TEST(ShimOpen, ReadOnly_ReadsAndDoesNotWrite) {
  World world;
  Db first("app.db");
  ASSERT_EQ(first.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  Db db("file:app.db?vfs=hiqlite&mode=ro", SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
  EXPECT_EQ(db.rows("SELECT x FROM t"), "1");
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), SQLITE_READONLY);
}

TEST(ShimOpen, WithoutCreate_UnknownNameIsNotFound) {
  World world;
  Db db("file:nothing.db?vfs=hiqlite&mode=rw");
  EXPECT_EQ(db.open_code(), code(SQLITE_CANTOPEN, Code::kNotFound));
  EXPECT_TRUE(mentions("nothing.db"));
}

TEST(ShimOpen, PlainFileOfTheName_IsNotShadowed) {
  World world;
  {
    Db plain("file:app.db", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, "unix");
    ASSERT_EQ(plain.exec("CREATE TABLE t(x)"), SQLITE_OK);
  }
  Db db("app.db");
  EXPECT_EQ(db.open_code(), code(SQLITE_CANTOPEN, Code::kExists));
  EXPECT_TRUE(mentions("hql_import('app.db'"));
  std::ofstream("empty.db").close();
  Db other("empty.db");
  EXPECT_EQ(other.open_code(), SQLITE_OK) << "not a SQLite file";
}

// The same in the node's own directory, where nobody looks for it before the name is created.
TEST(ShimOpen, StrangersFileInTheNodesDirectory_IsSetAsideAndNotRemoved) {
  World world;
  {
    Db stranger(world.work_dir() + "/stranger.db");
    ASSERT_EQ(stranger.exec("PRAGMA journal_mode=WAL; CREATE TABLE precious(x); INSERT INTO precious VALUES ('work')"),
              SQLITE_OK);
    for (const char* const suffix : {"", "-wal"})  // with what is in its WAL only
      std::filesystem::copy_file(world.work_dir() + "/stranger.db" + suffix, world.path("app.db") + suffix);
  }
  Db db("app.db");
  ASSERT_EQ(db.open_code(), SQLITE_OK) << base::to_string(vfs::last_error());
  EXPECT_EQ(db.rows("SELECT count(*) FROM sqlite_schema"), "0");
  std::string aside;
  for (const auto& entry : std::filesystem::directory_iterator(world.data_dir() + "/db")) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("app.db.set-aside-", 0) == 0 && name.find("-wal") == std::string::npos)
      aside = entry.path().string();
  }
  ASSERT_FALSE(aside.empty());
  std::filesystem::copy_file(aside, world.work_dir() + "/found.db");
  std::filesystem::copy_file(aside + "-wal", world.work_dir() + "/found.db-wal");
  Db found(world.work_dir() + "/found.db");
  EXPECT_EQ(found.rows("SELECT x FROM precious"), "work");
}

TEST(ShimOpen, AttachOfAnUnregisteredNameInTheNodesDirectory_ReadsOnly) {
  World world;
  Db db("app.db");
  EXPECT_EQ(db.exec("ATTACH '" + world.path("other.db") + "' AS o"), code(SQLITE_ERROR, Code::kRefused));
  EXPECT_TRUE(mentions("file:other.db?vfs=hiqlite"));
  EXPECT_FALSE(std::filesystem::exists(world.path("other.db")));
  {
    Db plain(world.work_dir() + "/plain.db");
    ASSERT_EQ(plain.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  }
  std::filesystem::copy_file(world.work_dir() + "/plain.db", world.path("other.db"));
  ASSERT_EQ(db.exec("ATTACH 'file:" + world.path("other.db") + "?mode=ro' AS o"), SQLITE_OK) << db.message();
  EXPECT_EQ(db.rows("SELECT x FROM o.t"), "1");
}

TEST(ShimOpen, BadNamesAndParameters_AreNamed) {
  World world;
  const std::pair<std::string, std::string> cases[] = {
      {"file:/tmp/elsewhere.db?vfs=hiqlite", "is a path"},
      {"file:sub/app.db?vfs=hiqlite", "is a path"},
      {"file:app.db?vfs=hiqlite&page_size=1000", "page_size=1000"},
      {"file:app.db?vfs=hiqlite&auto_vacuum=maybe", "auto_vacuum=maybe"},
      {"file:app.db?vfs=hiqlite&node=seven", "node=seven"},
      {"file:app.db?vfs=hiqlite&node=7", "node=7"},
  };
  for (const auto& [uri, text] : cases) {
    Db db(uri);
    EXPECT_EQ(db.open_code(), code(SQLITE_ERROR, Code::kArgument)) << uri;
    EXPECT_TRUE(mentions(text)) << base::to_string(vfs::last_error());
  }
  Db dotted("file:.hidden?vfs=hiqlite");
  EXPECT_NE(dotted.open_code(), SQLITE_OK);
}

TEST(ShimOpen, DangerousParameters_AreRefused) {
  World world;
  { Db first("app.db"); }
  for (const std::string parameter : {"cache=shared", "nolock=1", "immutable=1"}) {
    Db db("file:app.db?vfs=hiqlite&" + parameter);
    EXPECT_EQ(db.open_code(), code(SQLITE_ERROR, Code::kRefused)) << parameter;
    EXPECT_TRUE(mentions(parameter));
  }
  Db allowed("file:app.db?vfs=hiqlite&nolock=0&cache=private");
  EXPECT_EQ(allowed.open_code(), SQLITE_OK);
}

// A path names a registered database too where the VFS is inherited or the default one.
TEST(ShimOpen, DangerousParameters_AreRefusedWithoutVfsInTheUri) {
  World world;
  Db db("app.db");
  ASSERT_TRUE(vfs::set_default_vfs(true));
  for (const std::string parameter : {"cache=shared", "nolock=1", "immutable=1"}) {
    const std::string uri = "file:" + world.path("app.db") + "?" + parameter;
    EXPECT_EQ(db.exec("ATTACH '" + uri + "' AS a"), code(SQLITE_ERROR, Code::kRefused)) << parameter;
    EXPECT_TRUE(mentions(parameter));
    vfs::clear_last_error();
    Db by_default(uri);
    EXPECT_EQ(by_default.open_code(), code(SQLITE_ERROR, Code::kRefused)) << parameter;
    EXPECT_TRUE(mentions(parameter));
  }
  Db allowed("file:" + world.path("app.db") + "?immutable=0");
  EXPECT_EQ(allowed.open_code(), SQLITE_OK);
  ASSERT_TRUE(vfs::set_default_vfs(false));
}

TEST(ShimOpen, SharedCacheByFlag_SecondConnectionIsRefused) {
  World world;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_SHAREDCACHE;
  Db first("app.db", flags);
  ASSERT_EQ(first.open_code(), SQLITE_OK);
  Db second("app.db", flags);
  EXPECT_NE(second.open_code(), SQLITE_OK);
  EXPECT_TRUE(mentions("shared cache"));
  EXPECT_EQ(first.exec("CREATE TABLE t(x)"), SQLITE_OK);
}

// No automatic extension is asked about an ATTACH.
TEST(ShimOpen, SharedCacheByAttach_IsRefusedAtTheNextLock) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_SHAREDCACHE;
  Db one("file:one.db", flags);
  Db two("file:two.db", flags);
  ASSERT_EQ(one.exec("ATTACH 'file:app.db?vfs=hiqlite' AS s; INSERT INTO s.t VALUES (1)"), SQLITE_OK);
  (void)two.exec("ATTACH 'file:app.db?vfs=hiqlite' AS s");
  EXPECT_NE(two.exec("INSERT INTO s.t VALUES (2)"), SQLITE_OK);
  EXPECT_TRUE(mentions("shared cache"));
  EXPECT_EQ(one.exec("INSERT INTO s.t VALUES (2)"), code(SQLITE_ERROR, Code::kRefused));
  EXPECT_EQ(db.rows("SELECT x FROM t"), "1");
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (3)"), SQLITE_OK);
}

TEST(ShimOpen, NoNode_AutostartsOrSaysSo) {
  vfs::set_autostart({});
  {
    World world;
    world.unbind();
    Db db("app.db");
    EXPECT_EQ(db.open_code(), code(SQLITE_MISUSE, Code::kNotStarted));
    EXPECT_TRUE(mentions("hql_start()"));
  }
  World world;
  world.unbind();
  int called = 0;
  vfs::set_autostart([&called]() -> base::Status {
    ++called;
    return base::make_error(Code::kConfig, "hiqlite.toml: broken by the test");
  });
  Db db("app.db");
  vfs::set_autostart({});
  EXPECT_EQ(called, 1);
  EXPECT_EQ(db.open_code(), code(SQLITE_ERROR, Code::kConfig));
  EXPECT_TRUE(mentions("broken by the test"));
}

TEST(ShimOpen, SeveralNodes_AreChosenByTheUri) {
  World one(1);
  World two(2);
  Db unclear("app.db");
  EXPECT_EQ(unclear.open_code(), code(SQLITE_ERROR, Code::kArgument));
  Db a("file:app.db?vfs=hiqlite&node=1");
  Db b("file:app.db?vfs=hiqlite&node=2");
  ASSERT_EQ(a.exec("CREATE TABLE one(x)"), SQLITE_OK);
  ASSERT_EQ(b.exec("CREATE TABLE two(x)"), SQLITE_OK);
  EXPECT_EQ(a.rows("SELECT name FROM sqlite_schema"), "one");
  EXPECT_EQ(b.rows("SELECT name FROM sqlite_schema"), "two");
  EXPECT_EQ(vfs::connection_info(b.get()).node, base::NodeId(2));
}

TEST(ShimOpen, AttachVacuumIntoAndTemp_PassThrough) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  ASSERT_EQ(
      db.exec("ATTACH 'scratch.db' AS s; CREATE TABLE s.copy AS SELECT * FROM t; CREATE TEMP TABLE p AS SELECT 5 AS y"),
      SQLITE_OK)
      << db.message();
  EXPECT_TRUE(std::filesystem::exists("scratch.db"));
  EXPECT_EQ(db.rows("SELECT x, y FROM s.copy, p"), "1|5");
  EXPECT_EQ(db.rows("PRAGMA s.journal_mode"), "delete");
  ASSERT_EQ(db.exec("VACUUM INTO 'into.db'"), SQLITE_OK) << db.message();
  Db into("file:into.db");
  EXPECT_EQ(into.rows("SELECT x FROM t"), "1");
  // Both in one transaction: the other one is not WAL.
  EXPECT_EQ(db.exec("BEGIN; INSERT INTO t VALUES (2); INSERT INTO s.copy VALUES (2); COMMIT"), SQLITE_OK);
  EXPECT_EQ(db.rows("SELECT count(*) FROM s.copy"), "2");
  ASSERT_EQ(db.exec("DETACH s"), SQLITE_OK);
  Db memory(":memory:");
  ASSERT_EQ(memory.exec("ATTACH 'file:app.db?vfs=hiqlite' AS r; INSERT INTO r.t VALUES (3)"), SQLITE_OK)
      << memory.message();
  EXPECT_EQ(db.rows("SELECT count(*) FROM t"), "3");
}

TEST(ShimOpen, DefaultVfs_PassesUnregisteredPathsAndKnowsTheLiteralUri) {
  World world;
  ASSERT_TRUE(vfs::set_default_vfs(true));
  const int no_uri = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  {
    Db literal("file:app.db?vfs=hiqlite", no_uri);
    EXPECT_EQ(literal.open_code(), SQLITE_OK) << base::to_string(vfs::last_error());
    EXPECT_EQ(literal.exec("CREATE TABLE t(x)"), SQLITE_OK);
    EXPECT_TRUE(vfs::connection_info(literal.get()).managed);
    Db plain("./plain.db", no_uri);
    EXPECT_EQ(plain.exec("CREATE TABLE t(x)"), SQLITE_OK);
    EXPECT_FALSE(vfs::connection_info(plain.get()).managed);
    Db by_path(world.path("app.db"), no_uri);
    EXPECT_TRUE(vfs::connection_info(by_path.get()).managed);
    EXPECT_EQ(by_path.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
  }
  ASSERT_TRUE(vfs::set_default_vfs(false));
  EXPECT_STREQ(sqlite3_vfs_find(nullptr)->zName, "unix");
  EXPECT_TRUE(std::filesystem::exists("plain.db"));
}

TEST(ShimOpen, PlainOpenOfAManagedName_IsRefused) {
  World world;
  { Db first("app.db"); }
  // What a driver that knows no URIs does (Debian's SQLite reads every "file:" as a URI, so not at the start of the name here).
  Db literal("./file:app.db?vfs=hiqlite", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  EXPECT_NE(literal.open_code(), SQLITE_OK);
  EXPECT_TRUE(mentions("hql_default_vfs(1)"));
  Db writes(world.path("app.db"));
  EXPECT_NE(writes.open_code(), SQLITE_OK);
  EXPECT_TRUE(mentions("mode=ro"));
  Db reads(world.path("app.db"), SQLITE_OPEN_READONLY);
  EXPECT_EQ(reads.open_code(), SQLITE_OK);
}

TEST(ShimOpen, NamedVfsWithoutUri_IsRefusedUnlessItIsTheDefault) {
  World world;
  const int no_uri = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  Db named("named.db", no_uri, "hiqlite");
  EXPECT_EQ(named.open_code() & 0xff, SQLITE_ERROR);
  EXPECT_TRUE(mentions("SQLITE_OPEN_URI")) << base::to_string(vfs::last_error());
  Db memory(":memory:", no_uri, "hiqlite");
  EXPECT_EQ(memory.open_code(), SQLITE_OK);
  ASSERT_TRUE(vfs::set_default_vfs(true));
  Db inherits("./inherits.db", no_uri);
  EXPECT_EQ(inherits.open_code(), SQLITE_OK);
  ASSERT_TRUE(vfs::set_default_vfs(false));
}

TEST(ShimOpen, StoppedNode_ConnectionsGetAClearError) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); BEGIN; INSERT INTO t VALUES (1)"), SQLITE_OK);
  Db other("app.db");
  world.unbind();
  EXPECT_EQ(db.exec("COMMIT"), code(SQLITE_MISUSE, Code::kStopped));
  EXPECT_TRUE(mentions("was stopped"));
  EXPECT_EQ(db.exec("SELECT * FROM t"), code(SQLITE_MISUSE, Code::kStopped));
  EXPECT_EQ(other.exec("INSERT INTO t VALUES (1)"), code(SQLITE_MISUSE, Code::kStopped));
}

TEST(ShimOpen, DroppedDatabase_OpenConnectionsAreTold) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)"), SQLITE_OK);
  world.database("app.db").drop([](base::Status) {});
  EXPECT_EQ(db.exec("COMMIT"), code(SQLITE_IOERR, Code::kDropped));
  EXPECT_EQ(db.exec("SELECT * FROM t"), code(SQLITE_IOERR, Code::kDropped));
}

// SQLite opens -wal and -shm by name at the first read: they would be the next database's, and the close of a second descriptor of that -shm
// would take all of the process's read locks on it.
TEST(ShimOpen, DroppedBeforeItsFirstRead_OpensNothingOfTheNextOfItsName) {
  World world;
  Db unread("app.db");  // alone: another one of the old database would lend it the -shm that it has open
  world.drop("app.db");
  Db db("app.db");
  ASSERT_EQ(
      db.exec("CREATE TABLE t(x, b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
              "INSERT INTO t SELECT 1, randomblob(400) FROM n"),
      SQLITE_OK);
  world.settle();
  Db reader("app.db");
  ASSERT_EQ(reader.exec("PRAGMA cache_size=0; BEGIN"), SQLITE_OK);
  ASSERT_EQ(reader.rows("SELECT sum(x) FROM t"), "500");
  EXPECT_EQ(unread.exec("SELECT * FROM t"), code(SQLITE_IOERR, Code::kDropped));
  unread.close();
  EXPECT_EQ(db.rows("PRAGMA wal_checkpoint").substr(0, 2), "0|");
  for (int round = 0; round < 5; ++round) {
    world.gate().foreign_commit("app.db", "UPDATE t SET x = x + 1");
    world.settle();
  }
  EXPECT_EQ(reader.rows("SELECT sum(x) FROM t"), "500") << "its snapshot was written over";
  ASSERT_EQ(reader.exec("COMMIT"), SQLITE_OK);
  EXPECT_EQ(reader.rows("SELECT sum(x) FROM t"), "3000");
}

TEST(ShimOpen, ForkedChild_IsRefused) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool write_refused = db.exec("INSERT INTO t VALUES (1)") == code(SQLITE_MISUSE, Code::kForked);
    const bool read_refused = db.exec("SELECT * FROM t") == code(SQLITE_MISUSE, Code::kForked);
    sqlite3* again = nullptr;
    const bool open_refused = sqlite3_open_v2("file:app.db?vfs=hiqlite", &again,
                                              SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, nullptr) != SQLITE_OK;
    ::_exit(write_refused && read_refused && open_refused && vfs::in_forked_child() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
}

TEST(ShimNames, LiteralUri_IsReadLikeAUri) {
  const char* const literal =
      sqlite3_create_filename("file:app.db?node=2&vfs=hiqlite&timeout_ms=30&cache=shared", "", "", 0, nullptr);
  const auto request = vfs::parse_open_request(literal);
  sqlite3_free_filename(const_cast<char*>(literal));
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->ours);
  EXPECT_EQ(request->name, "app.db");
  EXPECT_EQ(request->node, base::NodeId(2));
  EXPECT_EQ(request->timeout, 30 * base::kMillisecond);
  EXPECT_EQ(request->refused, "cache=shared");
  const char* const other = sqlite3_create_filename("file:app.db?vfs=hiqlite2", "", "", 0, nullptr);
  const auto not_ours = vfs::parse_open_request(other);
  sqlite3_free_filename(const_cast<char*>(other));
  ASSERT_TRUE(not_ours);
  EXPECT_FALSE(not_ours->ours);
}

TEST(ShimNames, FirstPage_IsWhatSqliteCallsAnEmptyWalDatabase) {
  testing_base::TempDir dir;
  for (const auto mode : {vfs::AutoVacuum::kNone, vfs::AutoVacuum::kFull, vfs::AutoVacuum::kIncremental}) {
    const base::Bytes page = vfs::make_first_page(4096, mode);
    const std::string path = dir / ("first" + std::to_string(static_cast<int>(mode)));
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(page.data()), 4096);
    Db db("file:" + path);
    EXPECT_EQ(db.rows("PRAGMA journal_mode"), "wal");
    EXPECT_EQ(db.rows("PRAGMA auto_vacuum"), std::to_string(static_cast<int>(mode)));
    EXPECT_EQ(db.rows("PRAGMA integrity_check"), "ok");
    EXPECT_EQ(db.rows("PRAGMA page_count"), "1");
  }
}

}  // namespace
}  // namespace shim_test
