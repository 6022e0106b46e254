using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace PciOperator.Host;

/// <summary>
/// The state folder belongs to one process at a time: flock(2) on a file in it, which the kernel lets go when the process has ended.
/// </summary>
/// <remarks>
/// A process that was killed has not ended while one of its threads stands in a call of the kernel's that can't be cancelled (unbinding a
/// device that is in use), and keeps its lock that long. It does nothing more: the thread ends when the call does. So the file says whose
/// lock it is, and when that process is dead but for such a thread, the next one puts another file in its place. Who takes a lock makes
/// sure that its file is still the one in the folder; who puts another in its place does it under a lock of its own.
/// </remarks>
internal static class FolderLock
{
    private const string Name = "agent.lock";
    private const int Attempts = 50;
    private const int LongestHolder = 256;
    private const ulong KillSignal = 1UL << 8;
    private static readonly TimeSpan BetweenAttempts = TimeSpan.FromMilliseconds(10);
    private static readonly Lock Gate = new();

    // Folders that are this process's, for as long as it lives.
    private static readonly Dictionary<string, SafeFileHandle> Held = new(StringComparer.Ordinal);

    /// <summary>Takes the folder, which is made when it isn't there.</summary>
    /// <param name="folder">As this process sees it.</param>
    /// <param name="make">Makes the folder.</param>
    /// <returns>Null: it is ours; or nobody can write there, and so has nothing to keep. Otherwise who has it.</returns>
    /// <exception cref="HostIoException">It can't be told.</exception>
    public static string? Take(string folder, Action make)
    {
        lock (Gate)
        {
            if (Held.ContainsKey(folder))
                return null;
            HostIoException? failure = null;
            try
            {
                make();
            }
            catch (HostIoException e)
            {
                failure = e;
            }

            string path = $"{folder}/{Name}",
                who = "";
            for (int attempt = 0; attempt < Attempts; attempt++)
            {
                using SafeFileHandle? file = Open(path) ?? OpenFolder(folder);
                if (file is null)
                    return failure is null ? throw new HostIoException("open", path, Marshal.GetLastPInvokeError()) : null;
                if (TryLock(file, path))
                {
                    if (!IsStillThere(file, path, folder))
                        continue;
                    Keep(folder, file);
                    return null;
                }

                if (!IsDead(who = Holder(path)))
                {
                    // Its end may be on its way.
                    if (attempt >= Attempts / 10 && IsAlive(who))
                        return Words(who);
                }
                else if (TakeOver(folder, path))
                {
                    return null;
                }

                Thread.Sleep(BetweenAttempts);
            }

            return Words(who);
        }
    }

    /// <summary>Whether the dead one's lock has been replaced by one of ours; false: look again.</summary>
    private static bool TakeOver(string folder, string path)
    {
        string turn = $"{path}.turn",
            next = $"{path}.next";
        using SafeFileHandle? mine = Open(turn);
        if (mine is null || !TryLock(mine, turn))
            return false;

        // Somebody else may have been here first.
        using (SafeFileHandle? now = Open(path))
        {
            if (now is null || TryLock(now, path) || !IsDead(Holder(path)))
                return false;
        }

        _ = Libc.Unlink(next);
        using SafeFileHandle? file = Open(next);
        if (file is null || !TryLock(file, next))
            return false;
        SayWho(file);
        if (Libc.Rename(next, path) != 0)
            return false;
        Keep(folder, file);
        return true;
    }

    private static void Keep(string folder, SafeFileHandle file)
    {
        // Another descriptor of the same open file: the lock goes with the last of them.
        int fd = Libc.Duplicate((int)file.DangerousGetHandle(), Libc.F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            throw new HostIoException("keep", folder, Marshal.GetLastPInvokeError());
        SafeFileHandle kept = Held[folder] = new SafeFileHandle(fd, ownsHandle: true);
        SayWho(kept);
    }

    /// <summary>Read and write; to read, where nothing can be written.</summary>
    private static SafeFileHandle? Open(string path)
    {
        int fd = Libc.Open(path, Libc.O_RDWR | Libc.O_CREAT | Libc.O_CLOEXEC, 0x180);
        if (fd < 0)
            fd = Libc.Open(path, Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        return fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true);
    }

    private static SafeFileHandle? OpenFolder(string folder)
    {
        int fd = Libc.Open(folder, Libc.O_RDONLY | Libc.O_DIRECTORY | Libc.O_CLOEXEC, 0);
        return fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true);
    }

    private static bool TryLock(SafeFileHandle file, string path)
    {
        if (Libc.Flock((int)file.DangerousGetHandle(), Libc.LOCK_EX | Libc.LOCK_NB) == 0)
            return true;
        int errno = Marshal.GetLastPInvokeError();
        return errno is Errnos.EAGAIN or Errnos.EINTR ? false : throw new HostIoException("lock", path, errno);
    }

    /// <summary>A lock on a file that was replaced meanwhile is nobody's.</summary>
    private static bool IsStillThere(SafeFileHandle file, string path, string folder)
    {
        ulong? mine = Libc.InodeOf((int)file.DangerousGetHandle());
        return mine is not null && (mine == Libc.InodeAt(path) || mine == Libc.InodeAt(folder));
    }

    /// <summary>"PID, when it started, its namespace of PIDs": a full disk keeps it from being said, and then nobody takes over.</summary>
    private static unsafe void SayWho(SafeFileHandle file)
    {
        if (Started("self") is not { } started || NamespaceOfPids() is not { } pids)
            return;
        byte[] text = Encoding.ASCII.GetBytes($"{Environment.ProcessId} {started} {pids}\n".PadLeft(LongestHolder));
        fixed (byte* p = text)
            _ = Libc.WriteAt((int)file.DangerousGetHandle(), p, (nuint)text.Length, 0);
    }

    private static string Holder(string path) => Text(path)?.Trim() ?? "";

    /// <summary>
    /// Killed, and only kept from ending by a thread in the kernel. Whoever can't be seen from here, or isn't known, is not dead.
    /// </summary>
    private static bool IsDead(string holder) =>
        Parse(holder) is var (pid, started) && Started(pid) == started && (StateOf(pid) is 'Z' or 'X' || IsKilled(pid));

    private static bool IsAlive(string holder) => Parse(holder) is not var (pid, started) || (Started(pid) == started && !IsDead(holder));

    private static (string Pid, string Started)? Parse(string holder) =>
        holder.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var pid, var started, var pids]
        && pids == NamespaceOfPids()
        && pid.All(char.IsAsciiDigit)
            ? (pid, started)
            : null;

    private static string Words(string holder) =>
        Parse(holder) is var (pid, _) ? $"process {pid} ({Text($"/proc/{pid}/comm")?.Trim() ?? "?"})" : "another process";

    /// <summary>
    /// proc(5): the command is in parentheses, and may hold anything; the state follows, and the start time is the 22nd field.
    /// </summary>
    private static string[] Stat(string pid) =>
        Text($"/proc/{pid}/stat") is { } stat && stat.LastIndexOf(") ", StringComparison.Ordinal) is >= 0 and var end
            ? stat[(end + 2)..].Split(' ')
            : [];

    private static char? StateOf(string pid) => Stat(pid) is [[var state, ..], ..] ? state : null;

    private static string? Started(string pid) => Stat(pid) is { Length: > 19 } fields ? fields[19] : null;

    /// <summary>SIGKILL is on its way to it: "SigPnd" and "ShdPnd" of proc(5).</summary>
    private static bool IsKilled(string pid) =>
        (Text($"/proc/{pid}/status") ?? "")
            .Split('\n')
            .Where(l => l.StartsWith("SigPnd:", StringComparison.Ordinal) || l.StartsWith("ShdPnd:", StringComparison.Ordinal))
            .Any(l =>
                ulong.TryParse(l.AsSpan(7).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong signals)
                && (signals & KillSignal) != 0
            );

    private static string? NamespaceOfPids() => new FileInfo("/proc/self/ns/pid").LinkTarget;

    /// <summary>Not by .NET's file streams: these take a lock by flock(2) themselves.</summary>
    private static unsafe string? Text(string path)
    {
        const int size = 8192;
        int fd = Libc.Open(path, Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        if (fd < 0)
            return null;
        byte* buffer = stackalloc byte[size];
        nint length = Libc.Read(fd, buffer, size);
        _ = Libc.Close(fd);
        return length < 0 ? null : Encoding.UTF8.GetString(buffer, (int)length);
    }
}
