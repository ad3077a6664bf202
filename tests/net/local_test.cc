// The Unix socket of a data directory: server on a loop lane, blocking client.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "net/local_client.h"
#include "net/local_server.h"
#include "net/local_wire.h"
#include "tests/base/temp_dir.h"
#include "tests/net/harness.h"

namespace net_test {
namespace {

using base::Code;

class Local : public testing::Test {
 protected:
  void SetUp() override {
    auto lane = net::LoopLane::start("local-test");
    ASSERT_TRUE(lane);
    lane_ = std::move(*lane);
    path_ = dir_ / "sock";
  }
  void TearDown() override {
    on_lane(*lane_, [this] { held_.clear(); });
    if (server_) server_->stop();
    lane_->stop();
  }
  // "echo:x" is answered at once, "hold:x" when release() is called, "error:x" with an error, "big:n" with n bytes.
  void serve(const std::string& path) {
    auto server = net::LocalServer::listen(*lane_, path);
    ASSERT_TRUE(server) << base::to_string(server.error());
    server_ = std::move(*server);
    on_lane(*lane_, [this] {
      server_->start([this](base::ByteView request, net::LocalServer::Reply reply) {
        const std::string text(base::text_of(request));
        const std::string rest = text.substr(text.find(':') + 1);
        if (text.starts_with("hold:")) {
          held_.emplace_back(rest, std::move(reply));
          if (held_.size() == hold_count_) release();
        } else if (text.starts_with("error:")) {
          reply(base::make_error(Code::kNoQuorum, rest));
        } else if (text.starts_with("big:")) {
          reply(base::Bytes(std::stoul(rest), std::byte{7}));
        } else {
          reply(base::copy_of(base::view_of(rest)));
          reply(base::copy_of(base::view_of("a second answer is ignored")));
        }
      });
    });
  }
  void release() {  // last come, first served
    for (auto each = held_.rbegin(); each != held_.rend(); ++each)
      each->second(base::copy_of(base::view_of(each->first)));
    held_.clear();
  }
  static base::Result<std::string> ask(net::LocalClient& client, const std::string& text,
                                       std::int64_t timeout_ms = 20000) {
    auto reply = client.call(base::view_of(text), timeout_ms);
    if (!reply) return reply.error();
    return std::string(base::text_of(*reply));
  }
  static Code code_of(const base::Result<std::string>& result) {
    return result ? Code::kInternal : result.error().code;
  }
  std::unique_ptr<net::LocalClient> client() {
    auto connected = net::LocalClient::connect(path_, 20000);
    EXPECT_TRUE(connected) << base::to_string(connected.error());
    return std::move(*connected);
  }

  testing_base::TempDir dir_;
  std::string path_;
  std::unique_ptr<net::LoopLane> lane_;
  std::unique_ptr<net::LocalServer> server_;
  std::vector<std::pair<std::string, net::LocalServer::Reply>> held_;  // the lane's
  std::size_t hold_count_ = 1000;
};

TEST_F(Local, Calls_AreAnswered) {
  serve(path_);
  auto one = client();
  EXPECT_EQ(*ask(*one, "echo:hello"), "hello");
  EXPECT_EQ(*ask(*one, "echo:"), "");
  const auto error = ask(*one, "error:who is missing");
  EXPECT_EQ(code_of(error), Code::kNoQuorum);
  EXPECT_EQ(error.error().message, "who is missing");
  EXPECT_EQ(ask(*one, "big:5000000")->size(), 5000000u);
  EXPECT_EQ(ask(*one, "echo:" + std::string(3'000'000, 'x'))->size(), 3'000'000u);
}

TEST_F(Local, ManyClients_AreAnsweredOutOfOrder) {
  constexpr std::size_t kClients = 8;
  hold_count_ = kClients;
  serve(path_);
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (std::size_t i = 0; i < kClients; ++i) {
    threads.emplace_back([&, i] {
      auto one = client();
      if (*ask(*one, "hold:" + std::to_string(i)) == std::to_string(i)) ++right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, static_cast<int>(kClients));
}

TEST_F(Local, Deadline_IsUnknownOutcomeAndTheNextCallWorks) {
  serve(path_);
  auto one = client();
  EXPECT_EQ(code_of(ask(*one, "hold:x", 20)), Code::kUnknownOutcome);
  EXPECT_EQ(*ask(*one, "echo:again"), "again");
  on_lane(*lane_, [this] { release(); });  // the late answer finds no client
  EXPECT_EQ(*ask(*one, "echo:still"), "still");
}

TEST_F(Local, NobodyListens_IsNotStarted) {
  auto missing = net::LocalClient::connect(path_, 1000);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotStarted);
  serve(path_);
  auto one = client();
  server_->stop();
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_FALSE(ask(*one, "echo:x"));
  EXPECT_EQ(code_of(ask(*one, "echo:x")), Code::kNotStarted);
}

// Bound but never accepted: the deadline holds while the request is sent and while the answer is awaited.
TEST_F(Local, ServerThatNeverReads_EndsAtTheDeadline) {
  auto server = net::LocalServer::listen(*lane_, path_);
  ASSERT_TRUE(server);
  server_ = std::move(*server);
  auto one = client();
  EXPECT_EQ(code_of(ask(*one, "echo:" + std::string(10'000'000, 'x'), 20)), Code::kTimeout);
  // Connected before the 20 ms begin, and a short request is with the kernel at once: only the answer is missing.
  EXPECT_EQ(code_of(ask(*client(), "echo:x", 20)), Code::kUnknownOutcome);
}

TEST_F(Local, OversizedRequest_IsRefusedByBothSides) {
  serve(path_);
  auto one = client();
  const base::Bytes huge(net::kLocalRequestMax + 1);
  auto refused = one->call(huge, 1000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
  EXPECT_EQ(*ask(*one, "echo:fine"), "fine");

  // A client that does not check: the server answers from the header alone, then ends the connection.
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const auto header = net::encode_header(net::LocalHeader{0xFFFFFFFF, net::LocalKind::kRequest, 9});
  ASSERT_EQ(::send(fd, header.data(), header.size(), MSG_NOSIGNAL), static_cast<ssize_t>(header.size()));
  std::string answer;
  char buffer[512];
  for (ssize_t count; (count = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
    answer.append(buffer, static_cast<std::size_t>(count));
  ::close(fd);
  ASSERT_GE(answer.size(), net::kLocalHeaderSize);
  const auto decoded = net::decode_local_header(base::view_of(answer));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->id, 9u);
  EXPECT_EQ(decoded->kind, net::LocalKind::kError);
  EXPECT_EQ(net::decode_error(base::view_of(answer).subspan(net::kLocalHeaderSize)).code, Code::kTooLarge);
}

TEST_F(Local, OversizedReply_BecomesAnError) {
  serve(path_);
  auto one = client();
  EXPECT_EQ(code_of(ask(*one, "big:" + std::to_string(net::kLocalReplyMax + 1))), Code::kTooLarge);
}

TEST_F(Local, GarbageAndTruncation_DoNotDisturbOthers) {
  serve(path_);
  auto one = client();
  for (const std::string& bytes :
       {std::string(64, '\xff'), std::string("GET / HTTP/1.1\r\n\r\n"), std::string("x"), std::string(16, '\0')}) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    ::shutdown(fd, SHUT_WR);
    char buffer[64];
    EXPECT_LE(::recv(fd, buffer, sizeof buffer, 0), 0);  // the server closes, without a word
    ::close(fd);
    EXPECT_EQ(*ask(*one, "echo:ok"), "ok");
  }
}

TEST_F(Local, Mode_IsForTheUserAlone) {
  serve(path_);
  struct stat file {};
  ASSERT_EQ(::stat(path_.c_str(), &file), 0);
  EXPECT_TRUE(S_ISSOCK(file.st_mode));
  EXPECT_EQ(file.st_mode & 0777, 0600u);
}

TEST_F(Local, PathLongerThanSunPath_Works) {
  std::string deep = dir_.path();
  while (deep.size() < 300) {
    deep += "/a_rather_long_name_of_a_directory";
    std::filesystem::create_directory(deep);
  }
  path_ = deep + "/sock";
  serve(path_);
  EXPECT_EQ(*ask(*client(), "echo:deep"), "deep");
  server_->stop();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

// A socket whose process is gone.
void make_stale(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(fd);
}

// The superuser may open every file: this process is somebody else for a while.
class Somebody {
 public:
  Somebody() { EXPECT_TRUE(!root_ || ::seteuid(kNobody) == 0); }
  ~Somebody() { EXPECT_TRUE(!root_ || ::seteuid(0) == 0); }
  Somebody(const Somebody&) = delete;
  Somebody& operator=(const Somebody&) = delete;
  static constexpr uid_t kNobody = 65534;

 private:
  const bool root_ = ::geteuid() == 0;
};

TEST_F(Local, StaleFileThatMayNotBeOpened_IsReplacedOrThePermissionIsNamed) {
  make_stale(path_);
  ASSERT_EQ(::chmod(path_.c_str(), 0), 0);
  const std::string dir = std::filesystem::path(path_).parent_path();
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(dir.c_str(), Somebody::kNobody, static_cast<gid_t>(-1)), 0);
  }
  {
    const Somebody somebody;
    ASSERT_EQ(::chmod(dir.c_str(), 0555), 0);
    const auto refused = net::LocalServer::listen(*lane_, path_);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kPermission) << refused.error().message;
    EXPECT_NE(refused.error().message.find(path_), std::string::npos) << refused.error().message;
    ASSERT_EQ(::chmod(dir.c_str(), 0755), 0);
    serve(path_);
  }
  EXPECT_EQ(*ask(*client(), "echo:alive"), "alive");
}

TEST_F(Local, StaleFile_IsReplacedALiveOneIsNot) {
  make_stale(path_);
  serve(path_);
  auto second = net::LocalServer::listen(*lane_, path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kOwned);
  EXPECT_EQ(*ask(*client(), "echo:alive"), "alive");
}

TEST_F(Local, FileThatIsNoSocket_IsLeftAlone) {
  std::ofstream(path_) << "precious";
  auto server = net::LocalServer::listen(*lane_, path_);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().code, Code::kExists);
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
  auto nowhere = net::LocalServer::listen(*lane_, dir_ / "no/such/sock");
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code, Code::kNotFound);
}

}  // namespace
}  // namespace net_test
