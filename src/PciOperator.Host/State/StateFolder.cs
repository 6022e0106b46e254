namespace PciOperator.Host;

/// <summary>
/// Reading the agent's own folder, in which a person, a full disk or a broken one may have left anything: one file that can't be read,
/// moved or removed is that file's trouble alone.
/// </summary>
internal static class StateFolder
{
    /// <summary>Whether a file is what a write that was cut off left; it is removed, where that is possible.</summary>
    /// <exception cref="HostIoException">The disk failed.</exception>
    public static bool IsLeftOver(IHostFileSystem files, string folder, string name)
    {
        if (!name.EndsWith(".tmp", StringComparison.Ordinal))
            return false;
        try
        {
            files.Delete($"{folder}/{name}");
        }
        catch (HostIoException e) when (IsFixed(e.Errno))
        {
            // It stands for nothing, and is tried again later.
        }

        return true;
    }

    /// <summary>Removes what writes that were cut off left.</summary>
    /// <exception cref="HostIoException">It can't be removed.</exception>
    public static void RemoveLeftOvers(IHostFileSystem files, string folder)
    {
        foreach (string name in files.List(folder).Where(name => name.EndsWith(".tmp", StringComparison.Ordinal)))
            files.Delete($"{folder}/{name}");
    }

    /// <summary>A file's content; null when it isn't there, or (<paramref name="failed"/>) is no file.</summary>
    /// <exception cref="HostIoException">It is a file, and the disk doesn't give it: what it says may be known a moment later.</exception>
    public static byte[]? TryRead(IHostFileSystem files, string path, int max, out bool failed)
    {
        failed = false;
        try
        {
            return files.ReadBytes(path, max);
        }
        catch (HostIoException e) when (e.Errno is Errnos.EISDIR or Errnos.ELOOP or Errnos.ENAMETOOLONG)
        {
            failed = true;
            return null;
        }
    }

    /// <summary>Moves what can't be understood aside.</summary>
    /// <returns>Where it lies now: where it was, when it can't be moved.</returns>
    /// <exception cref="HostIoException">The disk failed.</exception>
    public static string PutAside(IHostFileSystem files, string path, string aside, byte[]? content)
    {
        if (content is null)
            return path;
        try
        {
            files.WriteDurably(aside, content);
            files.Delete(path);
            return aside;
        }
        catch (HostIoException e) when (IsFixed(e.Errno))
        {
            return path;
        }
    }

    /// <summary>What trying again doesn't change: nothing can be written there, or not under that name.</summary>
    private static bool IsFixed(int errno) =>
        errno is Errnos.EROFS or Errnos.ENOSPC or Errnos.EDQUOT or Errnos.EACCES or Errnos.EPERM or Errnos.ENAMETOOLONG;
}
