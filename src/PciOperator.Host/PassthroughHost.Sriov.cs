using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The number of VFs of a PF.</summary>
public sealed partial class PassthroughHost
{
    /// <summary>
    /// Gives a PF a number of VFs, through 0 when it has another number (the kernel's rule). Refused while a claim holds
    /// the PF or one of its VFs, or while the host uses a VF that would go.
    /// </summary>
    /// <param name="pf">The PF.</param>
    /// <param name="numVfs">0 to sriov_totalvfs.</param>
    /// <param name="autoprobe">sriov_drivers_autoprobe: whether VFs get their host driver; null leaves it alone.</param>
    /// <param name="ct">Stops waiting; what the kernel has begun goes on.</param>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public async Task<SriovOutcome> SetVfsAsync(PciAddress pf, int numVfs, bool? autoprobe = null, CancellationToken ct = default)
    {
        HostWork work;
        var result = new TaskCompletionSource<SriovOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        string? stalledAt = null;
        if (IsSo(pf, numVfs, autoprobe))
            return new SriovOutcome { Address = pf, Applied = true, NumVfs = numVfs };
        lock (gate)
        {
            Load();
            if (reservations.Resizing.TryGetValue(pf, out HostWork? running))
                return Refused(pf, HoldingReasons.Busy, $"The number of VFs of {pf} is being changed already{(running.IsStalled ? ", and the kernel has not finished" : "")}.");
            IReadOnlyList<(string ClaimUid, string Claim)> holders = reservations.HoldersOf(pf);
            if (holders.Count > 0)
            {
                return Refused(pf, HoldingReasons.OwnedByOther, $"{pf} can't have {numVfs} VFs now: it or its VFs are held by {string.Join(", ", holders.Select(h => h.Claim))}. It is done when they are released.") with
                {
                    BlockedBy = [.. holders.Select(h => h.ClaimUid)],
                };
            }

            work = new HostWork(time, options.WriteTimeout) { Stalled = doing => stalledAt = doing };
            reservations.Resizing[pf] = work;
        }

        work.Start($"sriov {pf}", () =>
        {
            try
            {
                result.TrySetResult(Resize(pf, numVfs, autoprobe, new WatchedFileSystem(files, work), work));
            }
#pragma warning disable CA1031 // handed to whoever waits for the result
            catch (Exception e)
#pragma warning restore CA1031
            {
                result.TrySetException(e);
            }
            finally
            {
                lock (gate)
                    reservations.Resizing.Remove(pf);
                Changed?.Invoke();
            }
        });
        await work.EndedOrStalled.WaitAsync(ct);
        return result.Task.IsCompleted || work.Ended.IsCompleted
            ? await result.Task
            : Refused(pf, HoldingReasons.WriteBlocked, $"The kernel has not finished {stalledAt} for {options.WriteTimeout.TotalSeconds:0} s; it can't be cancelled. A process may still use a VF: stop it. The work goes on when the kernel does.");
    }

    private bool IsSo(PciAddress pf, int numVfs, bool? autoprobe)
    {
        try
        {
            string folder = SysfsPaths.Device(pf);
            return Inventory.Number(files.ReadText($"{folder}/sriov_numvfs")) == numVfs
                && (autoprobe is null || files.ReadText($"{folder}/sriov_drivers_autoprobe") == (autoprobe.Value ? "1" : "0"));
        }
        catch (HostIoException)
        {
            // Said by the attempt that follows.
            return false;
        }
    }

    private static SriovOutcome Refused(PciAddress pf, string reason, string message) =>
        new() { Address = pf, Applied = false, Reason = reason, Message = message };

    private static SriovOutcome Resize(PciAddress pf, int numVfs, bool? autoprobe, WatchedFileSystem watched, HostWork work)
    {
        string folder = SysfsPaths.Device(pf);
        int? Now() => Inventory.Number(watched.ReadText($"{folder}/sriov_numvfs"));
        bool changed = false;
        try
        {
            int? total = Inventory.Number(watched.ReadText($"{folder}/sriov_totalvfs"));
            if (total is null)
            {
                return watched.Exists(folder)
                    ? Refused(pf, HoldingReasons.SriovFailed, $"{pf} has no SR-IOV: it is not a PF, or SR-IOV is off in the BIOS.")
                    : Refused(pf, HoldingReasons.DeviceGone, $"There is no device at {pf}.");
            }

            if (numVfs < 0 || numVfs > total)
                return Refused(pf, HoldingReasons.SriovFailed, $"{pf} can have 0 to {total} VFs; {numVfs} is not possible.") with { NumVfs = Now() };
            string probe = autoprobe switch { true => "1", false => "0", null => watched.ReadText($"{folder}/sriov_drivers_autoprobe") ?? "1" };
            if (watched.ReadText($"{folder}/sriov_drivers_autoprobe") is { } current && current != probe)
            {
                watched.Write($"{folder}/sriov_drivers_autoprobe", probe);
                changed = true;
            }

            int now = Now() ?? 0;
            if (now == numVfs)
                return new SriovOutcome { Address = pf, Applied = true, Changed = changed, NumVfs = now };
            if (now > 0 && UseOfVfs(pf, watched) is { } refusal)
                return refusal with { NumVfs = now, Changed = changed };
            if (now > 0)
                Write($"removing the VFs of {pf}", 0);
            if (numVfs > 0)
                Write($"making {numVfs} VFs of {pf}", numVfs);
            int? after = Now();
            return after == numVfs
                ? new SriovOutcome { Address = pf, Applied = true, Changed = true, NumVfs = after }
                : Refused(pf, HoldingReasons.SriovFailed, $"The kernel took {numVfs} as the number of VFs of {pf}, and shows {after}; the kernel log (dmesg) says why.") with { NumVfs = after, Changed = true };
        }
        catch (HostIoException e)
        {
            return Refused(pf, HoldingReasons.SriovFailed, e.Message) with { Changed = changed };
        }

        void Write(string purpose, int number)
        {
            work.Purpose = purpose;
            try
            {
                changed = true;
                watched.Write($"{folder}/sriov_numvfs", number.ToString());
            }
            finally
            {
                work.Purpose = null;
            }
        }
    }

    /// <summary>Why the VFs that would go must stay; null when nothing uses them.</summary>
    private static SriovOutcome? UseOfVfs(PciAddress pf, WatchedFileSystem watched)
    {
        var inventory = new Inventory(watched);
        var use = HostUse.Read(watched);
        List<HostFunction> vfs = inventory.ReadNow(inventory.VfsOf(pf), use);
        if (vfs.Select(vf => Guards.Check(vf, use, ours: false)).FirstOrDefault(r => r is not null) is { } refusal)
            return Refused(pf, HoldingReasons.GuardRefused, $"The VFs of {pf} can't be removed: {refusal.Sentence}");
        var open = new OpenFiles(watched);
        var nodes = new Dictionary<DeviceNumber, string>();
        foreach (KeyValuePair<DeviceNumber, string> node in vfs.SelectMany(vf => open.NodesOf(vf.Address)))
            nodes[node.Key] = node.Value;
        return open.FindUser(nodes, [.. vfs.Select(vf => vf.Address)]) is { } user
            ? Refused(pf, HoldingReasons.GuardRefused, $"The VFs of {pf} can't be removed: {user}.")
            : null;
    }
}
