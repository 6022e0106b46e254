namespace PciOperator.Vm.Guest;

/// <summary>
/// A log that many threads append to and that is on disk when they go on: who comes while it is being synced shares the next sync.
/// </summary>
internal sealed class SharedLog(string path) : IDisposable
{
    private readonly Lock _appending = new();
    private readonly Lock _syncing = new();
    private readonly FileStream _file = new(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);
    private long _appended,
        _synced;

    public void Append(ReadOnlySpan<byte> entry)
    {
        long mine;
        lock (_appending)
        {
            _file.Write(entry);
            mine = ++_appended;
        }

        lock (_syncing)
        {
            if (_synced >= mine)
                return;
            long all;
            lock (_appending)
                all = _appended;
            RandomAccess.FlushToDisk(_file.SafeFileHandle);
            _synced = all;
        }
    }

    public void Dispose() => _file.Dispose();
}
