// The simulated executor.
#include "tests/sim/sim_executor.h"

#include <utility>

namespace sim {

using base::Code;

base::Bytes encode_request(RequestKind kind, std::uint64_t op) {
  base::Writer out;
  out.u8(static_cast<std::uint8_t>(kind));
  out.u64(op);
  return out.take();
}

class SimExecutor final : public node::Executor {
 public:
  SimExecutor(SimExecutors& parts, std::string name) : parts_(parts), name_(std::move(name)) {}

  void run(std::vector<node::ExecuteRequest> batch, std::function<void(node::BatchResult)> done) override {
    parts_.sql_.post([this, batch = std::move(batch), done = std::move(done)]() mutable {
      work(std::move(batch), std::move(done));
    });
  }
  void pause(std::function<void()> done) override {
    parts_.sql_.post([this, done = std::move(done)]() mutable { parts_.loop_.post(std::move(done)); });
  }
  void interrupt() override {
    if (SimImage* image = parts_.images_.find(name_)) image->interrupt_executor();
  }

 private:
  void work(std::vector<node::ExecuteRequest> batch, std::function<void(node::BatchResult)> done) {
    SimImage* image = parts_.images_.find(name_);
    auto out = std::make_shared<node::BatchResult>();  // shared with the callback
    if (image == nullptr) {
      out->outcome = {vfs::OutcomeKind::kNotApplied, {}, base::make_error(Code::kDropped, name_)};
      parts_.loop_.post([out, done = std::move(done)] { done(*out); });
      return;
    }
    std::vector<std::uint64_t> ops;
    std::vector<pages::RequestRecord> records;
    for (const node::ExecuteRequest& request : batch) {
      base::Reader in(request.body);
      const auto kind = static_cast<RequestKind>(in.u8());
      const std::uint64_t op = in.u64();
      node::ExecuteResult result;
      result.origin = request.origin;
      if (!in.at_end() || (kind != RequestKind::kWrite && kind != RequestKind::kRead)) {
        result.body = base::make_error(Code::kSql, "not a request");
      } else if (kind == RequestKind::kWrite) {
        ops.push_back(op);
        base::Writer small;
        small.u64(op);
        records.push_back({request.origin, small.take()});
      }
      out->results.push_back(std::move(result));
    }
    image->transact(std::move(ops), std::move(records), true, parts_.env_.now() + parts_.timeout_,
                    [this, out, done = std::move(done)](const LocalResult& local) {
                      out->outcome = local.outcome;
                      out->changed = local.changed;
                      out->snapshot = local.snapshot;
                      for (node::ExecuteResult& result : out->results) {
                        if (!result.body) continue;
                        base::Writer count;
                        count.u64(local.count);
                        result.body = count.take();
                      }
                      parts_.loop_.post([out, done] { done(*out); });
                    });
  }

  SimExecutors& parts_;
  const std::string name_;
};

std::unique_ptr<node::Executor> SimExecutors::make(const std::string& database, base::DatabaseId) {
  return std::make_unique<SimExecutor>(*this, database);
}

}  // namespace sim
