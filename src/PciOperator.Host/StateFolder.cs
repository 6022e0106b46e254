namespace PciOperator.Host;

/// <summary>
/// Reading the agent's own folder, in which a person, a full disk or a broken one may have left anything: one file that can't be read,
/// moved or removed is that file's trouble alone.
/// </summary>
internal static class StateFolder
{
    /// <summary>Whether a file is what a write that was cut off left; it is removed, where that is possible.</summary>
    public static bool IsLeftOver(IHostFileSystem files, string folder, string name)
    {
        if (!name.EndsWith(".tmp", StringComparison.Ordinal))
            return false;
        try
        {
            files.Delete($"{folder}/{name}");
        }
        catch (HostIoException)
        {
            // It stands for nothing, and is tried again by the next agent.
        }

        return true;
    }

    /// <summary>A file's content; null when it isn't there, or (<paramref name="failed"/>) can't be read.</summary>
    public static byte[]? TryRead(IHostFileSystem files, string path, int max, out bool failed)
    {
        failed = false;
        try
        {
            return files.ReadBytes(path, max);
        }
        catch (HostIoException)
        {
            failed = true;
            return null;
        }
    }

    /// <summary>Moves what can't be understood aside.</summary>
    /// <returns>Where it lies now: where it was, when it can't be moved.</returns>
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
        catch (HostIoException)
        {
            return path;
        }
    }
}
