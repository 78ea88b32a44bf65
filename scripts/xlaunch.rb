# The Homebrew formula, for Apple silicon and Linux on x86-64. `scripts/release` writes it with @THINGS@ filled in.
class Xlaunch < Formula
  desc "Boot Linux in a throwaway sandbox from one command"
  homepage "@URL@"
  url "@URL@/xlaunch-@VERSION@-source.tar.gz"
  sha256 "@SOURCE_SHA256@"
  license all_of: ["BSD-2-Clause", "GPL-2.0-only", "LGPL-2.1-or-later"]

  depends_on "rust" => :build

  on_linux do
    depends_on arch: :x86_64
  end

  # The guest's kernel and busybox are built on Debian only; their source is xlaunch-@VERSION@-guest-source.tar.
  resource "guest" do
    url "@URL@/xlaunch-@VERSION@-guest.tar.gz"
    sha256 "@GUEST_SHA256@"
  end

  def install
    (buildpath/"built-guest").install resource("guest")
    ENV["XLAUNCH_GUEST_DIR"] = buildpath/"built-guest"
    system "cargo", "install", *std_cargo_args
    generate_completions_from_executable(bin/"xlaunch", "completions")
    (man1/"xlaunch.1").write Utils.safe_popen_read(bin/"xlaunch", "man")
    return unless OS.mac?

    system "codesign", "--force", "--sign", "-", "--entitlements", "scripts/xlaunch.entitlements", bin/"xlaunch"
  end

  test do
    assert_match "Linux", shell_output("#{bin}/xlaunch run -- uname -s")
    assert_equal "3", shell_output("#{bin}/xlaunch run -- sh -c 'echo $((1 + 2))'").strip
  end
end
