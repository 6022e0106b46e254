namespace PciOperator.Host;

/// <summary>
/// The whole disks of a device that is being taken, claimed as a mount claims them, so that between the last look and the unbind nobody
/// can mount them or build on them. Disposed as soon as the device is off its driver: an open disk keeps its old name.
/// </summary>
internal sealed class ExclusiveDisks : IDisposable
{
    private readonly Dictionary<string, IDisposable> _held = new(StringComparer.Ordinal);

    /// <summary>Claims a disk and keeps it.</summary>
    /// <returns>Whether it could be claimed.</returns>
    /// <exception cref="HostIoException">Its node can't be opened.</exception>
    public bool TryAdd(IHostFileSystem files, string node)
    {
        if (_held.ContainsKey(node))
            return true;
        if (files.ClaimBlockDevice(node) is not { } claim)
            return false;
        _held[node] = claim;
        return true;
    }

    public void Dispose()
    {
        foreach (IDisposable claim in _held.Values)
            claim.Dispose();
        _held.Clear();
    }
}
