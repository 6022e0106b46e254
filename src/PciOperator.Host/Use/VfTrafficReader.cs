using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Reads the traffic counters of VFs through their PFs, one question to the kernel for each PF. Reading waits for the kernel's lock of
/// network settings, which a change under way holds: it is done on a thread of its own, and given up after a while.
/// </summary>
/// <param name="files">The host.</param>
/// <param name="time">The clock.</param>
public sealed class VfTrafficReader(IHostFileSystem files, TimeProvider time)
{
    private readonly Lock _lock = new();

    // A driver that has counted anything counts: zeros of its VFs are zeros from then on.
    private readonly HashSet<(PciAddress Pf, string? Driver)> _counting = [];
    private Task<IReadOnlyList<VfCounters>>? _reading;

    /// <summary>
    /// The counters of the VFs of PFs. Of a PF whose driver counts nothing there are none: where each VF's counters are zero and always were,
    /// nobody can tell whether there was no traffic.
    /// </summary>
    /// <param name="pfs">The PFs' addresses.</param>
    /// <param name="limit">How long to wait.</param>
    /// <param name="ct">Ends the wait.</param>
    /// <returns>Null: the kernel has not answered within the limit. A later call waits for the same answer.</returns>
    public async Task<IReadOnlyList<VfCounters>?> ReadAsync(IReadOnlyList<PciAddress> pfs, TimeSpan limit, CancellationToken ct)
    {
        Task<IReadOnlyList<VfCounters>> reading;
        lock (_lock)
            reading = _reading ??= Begin(pfs);
        try
        {
            return await reading.WaitAsync(limit, time, ct);
        }
        catch (TimeoutException)
        {
            return null;
        }
        finally
        {
            lock (_lock)
            {
                if (_reading == reading && reading.IsCompleted)
                    _reading = null;
            }
        }
    }

    private Task<IReadOnlyList<VfCounters>> Begin(IReadOnlyList<PciAddress> pfs)
    {
        var done = new TaskCompletionSource<IReadOnlyList<VfCounters>>(TaskCreationOptions.RunContinuationsAsynchronously);
        WorkThread.Run(
            "vf-traffic",
            () =>
            {
                var found = new List<VfCounters>();
                foreach (PciAddress pf in pfs)
                {
                    try
                    {
                        found.AddRange(Read(pf));
                    }
                    catch (HostIoException)
                    {
                        // A card that goes, or a kernel that can't: the others still answer.
                    }
#pragma warning disable CA1031 // a thread's end must not be the program's
                    catch (Exception e)
#pragma warning restore CA1031
                    {
                        done.TrySetException(e);
                        return;
                    }
                }

                done.TrySetResult(found);
            }
        );
        return done.Task;
    }

    private List<VfCounters> Read(PciAddress pf)
    {
        Dictionary<int, PciAddress> vfs = Inventory.NumberedVfsOf(files, pf);
        if (vfs.Count == 0)
            return [];
        // Representors of VFs are under the PF, too, and know none.
        IReadOnlyDictionary<int, VfTraffic> counted =
            files.List($"{SysfsPaths.Device(pf)}/net").Select(files.ReadVfTraffic).FirstOrDefault(t => t.Count > 0)
            ?? new Dictionary<int, VfTraffic>();
        (PciAddress, string?) driver = (pf, Inventory.DriverOf(files, pf));
        lock (_lock)
        {
            if (counted.Values.Any(t => !t.IsNothing))
                _counting.Add(driver);
            if (!_counting.Contains(driver))
                return [];
        }

        return
        [
            .. vfs.Where(v => counted.ContainsKey(v.Key))
                .OrderBy(v => v.Key)
                .Select(v => new VfCounters(pf, v.Key, v.Value, counted[v.Key])),
        ];
    }
}
