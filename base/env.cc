// Whole-file helpers over any Env (base/env.h). Callers: config, identity and meta files. Any thread.
#include "base/env.h"

namespace base {
namespace {

Status write_new_file(Env& env, const std::string& path, ByteView bytes) {
  HQL_ASSIGN(file, env.open(path, OpenMode::kCreate));
  // A temporary file of an attempt that a crash ended may be longer.
  HQL_TRY(file->truncate(0));
  HQL_TRY(file->write(0, bytes));
  return file->sync();
}

}  // namespace

Status write_file_atomic(Env& env, const std::string& dir, const std::string& name, ByteView bytes) {
  const std::string path = dir + "/" + name;
  const std::string temporary = path + ".tmp";
  Status written = write_new_file(env, temporary, bytes);
  if (written) written = env.rename(temporary, path);
  if (!written) {
    // Best effort: what is left over is overwritten by the next attempt.
    static_cast<void>(env.remove(temporary));
    return written;
  }
  return env.sync_dir(dir);
}

Result<Bytes> read_file(Env& env, const std::string& path, std::size_t size_max) {
  HQL_ASSIGN(file, env.open(path, OpenMode::kReadOnly));
  HQL_ASSIGN(size, file->size());
  if (size > size_max) {
    return make_error(Code::kTooLarge, path + ": " + std::to_string(size) + " bytes, at most " +
                                           std::to_string(size_max) + " are expected");
  }
  Bytes bytes(static_cast<std::size_t>(size));
  HQL_ASSIGN(got, file->read(0, bytes));
  bytes.resize(got);
  return bytes;
}

}  // namespace base
