namespace PciOperator.Vm.Guest;

/// <summary>A log that many threads append to and that is on disk when they go on: who comes while it is being synced shares the next sync.</summary>
internal sealed class SharedLog(string path) : IDisposable
{
    private readonly object _gate = new();
    private readonly FileStream _file = new(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);
    private long _appended, _synced;
    private bool _syncing;

    public void Append(ReadOnlySpan<byte> entry)
    {
        lock (_gate)
        {
            _file.Write(entry);
            var mine = ++_appended;
            while (_synced < mine)
            {
                if (_syncing)
                    Monitor.Wait(_gate);
                else
                    Sync();
            }
        }
    }

    public void Dispose() => _file.Dispose();

    private void Sync()
    {
        var all = _appended;
        _syncing = true;
        Monitor.Exit(_gate);
        try
        {
            RandomAccess.FlushToDisk(_file.SafeFileHandle);
        }
        finally
        {
            Monitor.Enter(_gate);
            (_synced, _syncing) = (all, false);
            Monitor.PulseAll(_gate);
        }
    }
}
