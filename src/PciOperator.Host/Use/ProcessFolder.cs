namespace PciOperator.Host;

/// <summary>
/// Reading of /proc/PID while processes end. The kernel answers for a task that is being reaped with EACCES, ESRCH, ENOENT or EINVAL,
/// whatever the file (fs/proc/base.c); what that means only another look can tell.
/// </summary>
internal static class ProcessFolder
{
    /// <summary>So often a process that is still there is read before it is said that it can't be.</summary>
    public const int MostTries = 5;

    /// <summary>The processes that there are, but this one.</summary>
    public static IEnumerable<string> All(IHostFileSystem files)
    {
        string? self = files.ReadLink("/proc/self");
        return files.List("/proc").Where(name => char.IsAsciiDigit(name[0]) && name != self);
    }

    /// <summary>What is read of a process; null when it ended meanwhile.</summary>
    /// <param name="files">The host.</param>
    /// <param name="pid">The process.</param>
    /// <param name="read">Reads all that is wanted of it, each time anew.</param>
    /// <exception cref="HostIoException">It is there and can't be read, again and again.</exception>
    public static T? Read<T>(IHostFileSystem files, string pid, Func<T?> read)
        where T : class
    {
        for (int tries = 1; ; tries++)
        {
            try
            {
                return read();
            }
            catch (HostIoException e) when (e.Errno is Errnos.EACCES or Errnos.EPERM or Errnos.ESRCH or Errnos.ENOENT or Errnos.EINVAL)
            {
                if (HasEnded(files, pid))
                    return null;
                if (tries == MostTries)
                    throw;

                // What it is in the middle of takes the kernel some microseconds.
                Thread.Sleep(tries - 1);
            }
        }
    }

    /// <summary>
    /// A process' own mounts. The first of its threads may be dead while others live, and has no mounts then (EINVAL, fs/proc_namespace.c):
    /// a living one is asked. Null: none lives any more.
    /// </summary>
    /// <exception cref="HostIoException">They can't be read.</exception>
    public static string? Mounts(IHostFileSystem files, string pid)
    {
        foreach (string folder in Living(files, pid).Prepend($"/proc/{pid}"))
        {
            try
            {
                return files.ReadText($"{folder}/mountinfo");
            }
            catch (HostIoException e) when (e.Errno == Errnos.EINVAL)
            {
                // About to end, or dead.
            }
        }

        return null;
    }

    /// <summary>The folders of a process' threads but the first.</summary>
    public static IEnumerable<string> Living(IHostFileSystem files, string pid) =>
        files.List($"/proc/{pid}/task").Where(thread => thread != pid).Select(thread => $"/proc/{pid}/task/{thread}");

    /// <summary>It is gone, or only waits for its parent to notice: such a one has no files any more.</summary>
    private static bool HasEnded(IHostFileSystem files, string pid)
    {
        string? stat;
        try
        {
            stat = files.ReadText($"/proc/{pid}/stat");
        }
        catch (HostIoException e) when (e.Errno is Errnos.EACCES or Errnos.EINVAL)
        {
            return !files.Exists($"/proc/{pid}");
        }

        // "4242 (name) S …": the name may hold anything, parentheses too. A dead leader may have threads that live.
        if (stat is null)
            return !files.Exists($"/proc/{pid}");
        return stat[(stat.LastIndexOf(')') + 1)..].TrimStart() is ['Z' or 'X' or 'x', ..] && files.List($"/proc/{pid}/task").Count <= 1;
    }
}
