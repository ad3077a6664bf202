// hiqlite_bench: the same statements on plain local SQLite (WAL, synchronous=FULL) and on the replicated database, in turn, in one run,
// so that the ratio survives a noisy machine. It is a host program like any other: it links SQLite and loads the extension.
//   hiqlite_bench [--config FILE|JSON] [--seconds S] [--rounds N] [--clients N] [--dir D] [--only NAME]
// NAME: the beginning of a row's name, e.g. "hql_execute".
// Rounds alternate local and replicated; medians are printed. docs: bench/README.md.
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Settings {
  std::string config;
  std::string dir;
  double seconds = 2;
  int rounds = 5;
  int clients = 16;
  std::string only;
  bool wants(const std::string& name) const { return name.compare(0, only.size(), only) == 0; }
};

[[noreturn]] void die(const std::string& text) {
  std::fprintf(stderr, "hiqlite_bench: %s\n", text.c_str());
  std::exit(1);
}

void run(sqlite3* db, const char* sql) {
  char* message = nullptr;
  if (sqlite3_exec(db, sql, nullptr, nullptr, &message) != SQLITE_OK)
    die(std::string(sql) + ": " + (message != nullptr ? message : ""));
}

sqlite3* open(const std::string& name) {
  sqlite3* db = nullptr;
  if (sqlite3_open_v2(name.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, nullptr) !=
      SQLITE_OK)
    die(name + ": " + sqlite3_errmsg(db));
  sqlite3_busy_timeout(db, 30000);
  return db;
}

sqlite3_stmt* prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) != SQLITE_OK)
    die(std::string(sql) + ": " + sqlite3_errmsg(db));
  return statement;
}

void step(sqlite3* db, sqlite3_stmt* statement) {
  const int rc = sqlite3_step(statement);
  if (rc != SQLITE_DONE && rc != SQLITE_ROW) die(sqlite3_errmsg(db));
  sqlite3_reset(statement);
}

// Operations per second of `operation` (which says how many it did), for about `seconds`.
double rate(double seconds, const std::function<int()>& operation) {
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  long count = 0;
  while (Clock::now() < end) count += operation();
  return static_cast<double>(count) / std::chrono::duration<double>(Clock::now() - begin).count();
}

class Subject {
 public:
  explicit Subject(sqlite3* db) : db_(db) {
    run(db_, "CREATE TABLE IF NOT EXISTS b(id INTEGER PRIMARY KEY, k INTEGER, v TEXT)");
    insert_ = prepare(db_, "INSERT INTO b(k, v) VALUES (?1, 'a value of about forty characters, as rows are')");
    select_ = prepare(db_, "SELECT v FROM b WHERE id = ?1");
    begin_ = prepare(db_, "BEGIN IMMEDIATE");
    commit_ = prepare(db_, "COMMIT");
  }
  int insert() {
    sqlite3_bind_int64(insert_, 1, ++key_);
    step(db_, insert_);
    return 1;
  }
  int insert_many(int count) {
    step(db_, begin_);
    for (int i = 0; i < count; ++i) insert();
    step(db_, commit_);
    return count;
  }
  int select() {
    for (int i = 0; i < 64; ++i) {
      sqlite3_bind_int64(select_, 1, 1 + (key_++ * 7919) % 1000);
      step(db_, select_);
    }
    return 64;
  }

 private:
  sqlite3* db_;
  sqlite3_stmt* insert_;
  sqlite3_stmt* select_;
  sqlite3_stmt* begin_;
  sqlite3_stmt* commit_;
  sqlite3_int64 key_ = 0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void report(const char* name, const std::vector<double>& local, const std::vector<double>& replicated) {
  const double l = median(local);
  const double r = median(replicated);
  std::printf("%-34s local %10.0f/s   replicated %10.0f/s   ratio %.2f\n", name, l, r, r / l);
  std::fflush(stdout);
}

// hql_execute from many threads, each with a connection of its own.
double execute_rate(const Settings& settings, const std::string& extra) {
  std::atomic<bool> stop{false};
  std::atomic<long> count{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < settings.clients; ++i)
    threads.emplace_back([&, i] {
      sqlite3* db = open(":memory:");
      sqlite3_stmt* statement =
          prepare(db, ("SELECT hql_execute_opts('{\"db\":\"bench.db\"}', 'INSERT INTO b(k, v) VALUES (?1, ?2)', ?1, '" +
                       extra + "')")
                          .c_str());
      for (sqlite3_int64 key = i; !stop.load(); ++key) {
        sqlite3_bind_int64(statement, 1, key);
        step(db, statement);
        count.fetch_add(1);
      }
      sqlite3_finalize(statement);
      sqlite3_close(db);
    });
  const auto begin = Clock::now();
  const std::chrono::duration<double> interval(settings.seconds);
  std::this_thread::sleep_for(interval);  // tidy: allow(sleep) the measured interval itself
  stop.store(true);
  for (auto& thread : threads) thread.join();
  return static_cast<double>(count.load()) / std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string extension() {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  const std::string path(self, length > 0 ? static_cast<std::size_t>(length) : 0);
  const std::string bin = path.substr(0, path.rfind('/'));
  return bin.substr(0, bin.rfind('/')) + "/lib/libhiqlite.so";
}

Settings parse(int count, char** words) {
  Settings settings;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--help") {
      std::printf(
          "usage: hiqlite_bench [--config FILE|JSON] [--seconds S] [--rounds N] [--clients N] [--dir D] [--only "
          "NAME]\n");
      std::exit(0);
    }
    if (i + 1 >= count) die(word + " needs a value");
    const std::string value = words[++i];
    if (word == "--config")
      settings.config = value;
    else if (word == "--seconds")
      settings.seconds = std::atof(value.c_str());
    else if (word == "--rounds")
      settings.rounds = std::max(1, std::atoi(value.c_str()));
    else if (word == "--clients")
      settings.clients = std::max(1, std::atoi(value.c_str()));
    else if (word == "--dir")
      settings.dir = value;
    else if (word == "--only")
      settings.only = value;
    else
      die("unknown option " + word);
  }
  if (settings.dir.empty()) {
    char path[] = "/var/tmp/hiqlite-bench.XXXXXX";  // a disk, where /tmp may be memory
    if (::mkdtemp(path) == nullptr) die("cannot make a temporary directory");
    settings.dir = path;
  }
  if (settings.config.empty()) settings.config = "{\"data_dir\":\"" + settings.dir + "/data\"}";
  return settings;
}

}  // namespace

int main(int count, char** words) {
  const Settings settings = parse(count, words);
  sqlite3* host = open(":memory:");
  sqlite3_db_config(host, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, nullptr);
  char* message = nullptr;
  if (sqlite3_load_extension(host, extension().c_str(), nullptr, &message) != SQLITE_OK)
    die(message != nullptr ? message : "cannot load");
  sqlite3_stmt* start = prepare(host, "SELECT hql_start(?1), hql_wait_healthy(60000)");
  sqlite3_bind_text(start, 1, settings.config.c_str(), -1, SQLITE_STATIC);
  step(host, start);
  // Plain writes need the leader.
  sqlite3_stmt* lead = prepare(
      host,
      "SELECT CASE WHEN hql_is_leader() THEN 0 ELSE hql_transfer_leader(json_extract(hql_status(), '$.node_id')) END");
  step(host, lead);

  sqlite3* local_db = open(settings.dir + "/local.db");
  run(local_db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;");
  sqlite3* replicated_db = open("file:bench.db?vfs=hiqlite");
  Subject local(local_db);
  Subject replicated(replicated_db);
  local.insert_many(1000);
  replicated.insert_many(1000);

  struct Workload {
    const char* name;
    std::function<int(Subject&)> run;
  };
  const Workload workloads[] = {
      {"INSERT, autocommit", [](Subject& s) { return s.insert(); }},
      {"INSERT, 64 per transaction (rows)", [](Subject& s) { return s.insert_many(64); }},
      {"SELECT by key", [](Subject& s) { return s.select(); }},
  };
  for (const auto& workload : workloads) {
    if (!settings.wants(workload.name)) continue;
    std::vector<double> a;
    std::vector<double> b;
    for (int round = 0; round < settings.rounds; ++round) {
      a.push_back(rate(settings.seconds, [&] { return workload.run(local); }));
      b.push_back(rate(settings.seconds, [&] { return workload.run(replicated); }));
    }
    report(workload.name, a, b);
  }
  std::vector<double> a;
  std::vector<double> b;
  const std::string execute = "hql_execute, " + std::to_string(settings.clients) + " clients";
  for (int round = 0; settings.wants(execute) && round < settings.rounds; ++round) {
    a.push_back(rate(settings.seconds, [&] { return local.insert(); }));
    b.push_back(execute_rate(settings, "a value of about forty characters, as rows are"));
  }
  if (!a.empty()) report(execute.c_str(), a, b);
  sqlite3_stmt* stop = prepare(host, "SELECT hql_stop()");
  step(host, stop);
  return 0;
}
