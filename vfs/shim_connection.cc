// The state of one managed connection (vfs/shim_connection.h).
#include "vfs/shim_connection.h"

#include "vfs/fork.h"

namespace vfs {

ShimConnection::ShimConnection(std::shared_ptr<BoundNode> bound, Database& of, sqlite3_file* lower_file,
                               ExecutorMark* executor)
    : node(std::move(bound)),
      database(&of),
      database_id(of.params().id),
      name(of.params().name),
      path(of.file_path()),
      page_size(of.params().page_size),
      queue(node->queue_of(database_id)),
      lower(lower_file),
      mark(executor),
      busy_timeout(node->gate().commit_timeout()) {}

void ShimConnection::doom(const base::Error& reason) {
  base::MutexLock lock(mutex_);
  if (reason.code == base::Code::kDropped) dropped_.store(true);
  if (doomed_.load()) return;
  doom_reason_ = reason;
  doomed_.store(true);
}

base::Error ShimConnection::doom_reason() {
  base::MutexLock lock(mutex_);
  return doom_reason_;
}

void ShimConnection::clear_doom() {
  if (!doomed_.load()) return;
  base::MutexLock lock(mutex_);
  doomed_.store(false);
  doom_reason_ = {};
}

void ShimConnection::cut_off() {
  if (database == nullptr) return;
  database->unlock_writer(*this);  // idempotent
  database->detach(*this);
  database = nullptr;
}

void ShimConnection::remember(const base::Error& error) {
  base::MutexLock lock(mutex_);
  last_error_ = error;
}

base::Error ShimConnection::last_error() {
  base::MutexLock lock(mutex_);
  return last_error_;
}

base::Status ShimConnection::usable() const {
  if (in_forked_child()) return forked_error();
  if (node->stopped()) return node->stopped_error();
  if (dropped_.load())
    return base::make_error(base::Code::kDropped, "database " + name + " was dropped while this connection was open");
  return base::ok();
}

ShimConnection* connection_of(sqlite3* db, const char* schema) {
  sqlite3_file* file = nullptr;
  if (db == nullptr || sqlite3_file_control(db, schema, SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK) return nullptr;
  return file == nullptr ? nullptr : connection_of(file);
}

base::Error last_error_of(void* db) {
  ShimConnection* const connection = connection_of(static_cast<sqlite3*>(db), "main");
  return connection != nullptr ? connection->last_error() : base::Error{};
}

}  // namespace vfs
