using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The devices of a request as the host shows them now, known to be the ones that were asked for.</summary>
internal sealed record PreBindChecks(IReadOnlyList<HostFunction> Devices, IReadOnlyList<HostFunction> Vfs, HostUsage Usage)
{
    private HostUse Use => Usage.Use;

    /// <summary>Reads the devices and compares them with the request: identity, and groups whole.</summary>
    /// <param name="request">What was asked for.</param>
    /// <param name="files">The host.</param>
    /// <param name="inUse">The devices are handed out already.</param>
    /// <exception cref="RefusalException">DeviceGone, DriftDetected, NoIommuGroup, GroupNotViable or InvalidRequest.</exception>
    /// <param name="usage">How the host uses its devices.</param>
    public static PreBindChecks Of(AssignmentRequest request, WatchedFileSystem files, bool inUse, HostUsage usage)
    {
        HostUse use = usage.Use;
        var inventory = new Inventory(files);
        var found = inventory.ReadNow(request.Devices.Select(d => d.Address), use).ToDictionary(f => f.Address);
        foreach (DeviceToTake device in request.Devices)
        {
            try
            {
                CheckIdentity(device, found.GetValueOrDefault(device.Address), use, files, inUse);
            }
            catch (RefusalException drift) when (DriftCheck.IsDrift(drift.Reason) && DeviceIdentity.IsSerial(device.StableId))
            {
                string elsewhere = DeviceIdentity.Elsewhere(
                    device.Address,
                    KnownDevice.Of(device),
                    inventory.ReadAll(use, fresh: true, [])
                );
                throw elsewhere.Length == 0 ? drift : new RefusalException(drift.Reason, drift.Message + elsewhere);
            }
        }

        CheckGroups(request, found, inventory, use, inUse);
        var vfs = new List<HostFunction>();
        foreach (HostFunction pf in found.Values.Where(f => f.Function.Type == DeviceType.Pf))
        {
            List<PciAddress> addresses = inventory.VfsOf(pf.Address);
            if (addresses.Find(found.ContainsKey) is var own && found.ContainsKey(own))
            {
                throw new RefusalException(
                    HoldingReasons.InvalidRequest,
                    $"The assignment names the PF {pf.Address} and its VF {own}: taking a PF removes its VFs."
                );
            }

            vfs.AddRange(inventory.ReadNow(addresses, use));
        }

        return new PreBindChecks([.. request.Devices.Select(d => found[d.Address])], vfs, usage);
    }

    /// <summary>All guards on all that would be taken: the devices and the VFs that go with a PF.</summary>
    /// <param name="files">The host.</param>
    /// <param name="guards">The guards, and what a person has overridden.</param>
    /// <param name="ours">Whether a function is already bound for this claim.</param>
    /// <param name="administrators">The drivers that a function of the administrator's may be on; null: it is ours to bind.</param>
    /// <param name="claims">Gets the disks, which are the agent's until it is disposed.</param>
    /// <returns>What guards said that a person has overridden.</returns>
    /// <exception cref="RefusalException">GuardRefused, ForeignVfioBinding, NotBound or InUse.</exception>
    public IReadOnlyList<GuardRefusal> CheckGuards(
        WatchedFileSystem files,
        Guards guards,
        Func<HostFunction, bool> ours,
        Func<HostFunction, BindDriver?> administrators,
        ExclusiveDisks claims
    )
    {
        var overridden = new List<GuardRefusal>();
        foreach (HostFunction f in Devices.Concat(Vfs))
        {
            BindDriver? bound = administrators(f);
            if (bound is { } wanted && !VfioDrivers.IsBoundAs(wanted, f.Driver))
            {
                throw new RefusalException(
                    HoldingReasons.NotBound,
                    $"{f.Address} is on {f.Driver ?? "no driver"}, and its spec says managed: false: bind it to {VfioDrivers.NameOf(wanted)} first (driverctl set-override {f.Address} {VfioDrivers.NameOf(wanted)})."
                );
            }

            GuardVerdict verdict = guards.Check(f, Use, ours(f) || bound is not null);
            if (verdict.Refusal is { } refusal)
            {
                throw new RefusalException(
                    refusal.Guard == Guards.ForeignVfioBinding ? HoldingReasons.ForeignVfioBinding : HoldingReasons.GuardRefused,
                    refusal.Sentence
                );
            }

            if (verdict.Overridden is { } said)
                overridden.Add(said);
        }

        List<HostFunction> taken = [.. Devices.Concat(Vfs).Where(f => !ours(f) && administrators(f) is null)];
        List<HostFunction> free = [.. taken.Where(f => !guards.IsOverridden(f))];
        ClaimDisks(files, free, claims);
        CheckOpen(files, taken, free);
        return overridden;
    }

    /// <summary>
    /// The guards once more, right before the first write: what came into use since the first look (loading a module and writing the
    /// journal take their time). The functions themselves are the ones that were examined.
    /// </summary>
    /// <exception cref="RefusalException">See <see cref="CheckGuards"/>.</exception>
    public void CheckGuardsAgain(
        WatchedFileSystem files,
        Guards guards,
        Func<HostFunction, bool> ours,
        Func<HostFunction, BindDriver?> administrators,
        ExclusiveDisks claims
    ) => (this with { Usage = files.Usage() }).CheckGuards(files, guards, ours, administrators, claims);

    /// <summary>The kernel knows who has a disk, also where nothing shows it; and once it is ours, nobody else gets it.</summary>
    private void ClaimDisks(IHostFileSystem files, List<HostFunction> free, ExclusiveDisks claims)
    {
        foreach (HostFunction f in free)
        {
            foreach (Disk disk in Use.DisksOf(f.Address).Where(d => !d.IsPartition))
            {
                bool claimed;
                try
                {
                    claimed = claims.TryAdd(files, disk.Node);
                }
                catch (HostIoException e) when (e.Errno == Errnos.ENOMEDIUM)
                {
                    continue;
                }
                catch (HostIoException e)
                {
                    throw new RefusalException(
                        HoldingReasons.GuardRefused,
                        $"{f.Address} carries {disk.Node}, and whether it is in use can't be seen: {e.Message}"
                    );
                }

                if (!claimed)
                {
                    throw new RefusalException(
                        HoldingReasons.GuardRefused,
                        $"{f.Address} carries {disk.Node}, which the kernel holds for somebody: {new OtherMounts(files).WhereIs(Use.DisksOf(f.Address)) ?? "a mount in another namespace, LVM, RAID, ZFS, a program that opened it exclusively, …"}."
                    );
                }
            }
        }
    }

    /// <summary>Files that processes have open, and what other network namespaces have.</summary>
    /// <param name="files">The host.</param>
    /// <param name="taken">What would be bound.</param>
    /// <param name="free">That, without what a person has overridden: of these the VFIO nodes alone count.</param>
    private void CheckOpen(WatchedFileSystem files, List<HostFunction> taken, List<HostFunction> free)
    {
        var those = new DeviceNodes(files);
        var nodes = new Dictionary<DeviceNumber, string>();
        foreach (
            KeyValuePair<DeviceNumber, string> node in free.SelectMany(f => those.Of(f.Address))
                .Concat(free.SelectMany(f => Use.DisksOf(f.Address)).Select(d => KeyValuePair.Create(d.Number, d.Node)))
                .Concat(taken.Union(Devices).SelectMany(f => those.VfioOf(f.Address, f.Function.IommuGroup)))
        )
        {
            nodes[node.Key] = node.Value;
        }

        PciAddress[] addresses = [.. free.Select(f => f.Address)];
        if (nodes.Count + addresses.Length > 0 && Usage.Processes.FindUser(nodes, addresses) is { } user)
        {
            throw new RefusalException(
                HoldingReasons.GuardRefused,
                $"A device of {string.Join(", ", taken.Union(Devices).Select(f => f.Address))} is in use: {user}. Stop that process."
            );
        }

        if (
            free.Any(f => Guards.IsNetwork(f) || Use.InterfacesOf(f.Address).Count > 0) && Usage.Namespaces.FindUser(addresses) is { } other
        )
        {
            throw new RefusalException(HoldingReasons.GuardRefused, other);
        }
    }

    private static void CheckIdentity(DeviceToTake device, HostFunction? found, HostUse use, IHostFileSystem files, bool inUse)
    {
        if (found is null)
            throw new RefusalException(HoldingReasons.DeviceGone, $"There is no device at {device.Address}.");
        PciFunction f = found.Function;
        if (
            DeviceIdentity.Difference(device.Address, KnownDevice.Of(device), KnownDevice.Of(found), inUse && found.IsStillOurs) is
            { } difference
        )
        {
            throw new RefusalException(HoldingReasons.DriftDetected, difference);
        }

        if (f.IsBridge)
            throw new RefusalException(HoldingReasons.InvalidRequest, $"{device.Address} is a bridge: bridges are not handed out.");
        if (f.IommuGroup is null || use.UnsafeNoIommu)
        {
            throw new RefusalException(
                HoldingReasons.NoIommuGroup,
                $"{device.Address} has no IOMMU group. {HostFacts.Iommu(files).WhyNot}".TrimEnd()
            );
        }

        if (device.IommuGroup is { } group && f.IommuGroup != group)
        {
            throw new RefusalException(
                HoldingReasons.DriftDetected,
                $"{device.Address} is in IOMMU group {f.IommuGroup} now and was in {group} when it was given."
            );
        }
    }

    private static void CheckGroups(
        AssignmentRequest request,
        Dictionary<PciAddress, HostFunction> found,
        Inventory inventory,
        HostUse use,
        bool inUse
    )
    {
        // The VFs of an administrator's PF are the administrator's; a PF that was handed out and never left was taken without VFs, so that
        // one which is there came after it.
        HashSet<PciAddress> unmanaged = [.. request.Devices.Where(d => !d.Managed).Select(d => d.Address)];
        bool IsTaken(PciAddress pf) =>
            !unmanaged.Contains(pf)
            && found.TryGetValue(pf, out HostFunction? f)
            && f.Function.Type == DeviceType.Pf
            && !(inUse && f.IsStillOurs);
        foreach (int group in found.Values.Select(f => f.Function.IommuGroup!.Value).Distinct())
        {
            foreach (HostFunction other in inventory.ReadNow(inventory.GroupMembers(group).Where(a => !found.ContainsKey(a)), use))
            {
                if (WholeGroup.IsMember(other.Function, IsTaken))
                    throw Left(other, unmanaged);
                if (other.Function.IsBridge && Guards.SpoilsGroup(other) is { } spoilt)
                    throw new RefusalException(HoldingReasons.GroupNotViable, spoilt.Sentence);
            }
        }
    }

    /// <summary>Another function of the group, which would be left with the host.</summary>
    private static RefusalException Left(HostFunction other, HashSet<PciAddress> unmanaged) =>
        other.Function.ParentAddress is { } pf && unmanaged.Contains(pf)
            ? new RefusalException(HoldingReasons.GroupNotViable, $"{pf}: {WholeGroup.WhyNotWithVfs(pf, other.Address)}.")
            : new RefusalException(
                HoldingReasons.DriftDetected,
                $"IOMMU group {other.Function.IommuGroup} also holds {other.Address} ({other.Function.VendorId}:{other.Function.ProductId}), which the assignment doesn't name: a group is taken whole or not at all."
            );
}
