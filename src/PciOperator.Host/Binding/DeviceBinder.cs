using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Binds and restores devices by driver_override and drivers_probe (never new_id). Every step looks at what is there
/// first, so that it can be begun again after any interruption; results are read back, since a probe that failed says OK too.
/// </summary>
internal sealed partial class DeviceBinder(WatchedFileSystem files, BlockingWork work)
{
    // A write of zero bytes changes nothing: a newline clears the override.
    private const string Clear = "\n";

    /// <summary>Loads what is missing; the name that the driver has under /sys/bus/pci/drivers.</summary>
    /// <exception cref="RefusalException">VfioUnavailable.</exception>
    public string EnsureDriver(string name)
    {
        if (Registered(name) is { } there)
            return there;
        try
        {
            files.LoadModule(name);
        }
        catch (HostIoException e)
        {
            throw new RefusalException(HoldingReasons.VfioUnavailable, $"The driver {name} isn't there and can't be loaded: {e.Message}");
        }

        return Registered(name)
            ?? throw new RefusalException(
                HoldingReasons.VfioUnavailable,
                $"modprobe {name} succeeded, but the kernel shows no driver {name} for PCI devices."
            );
    }

    /// <summary>Binds one device to its target driver.</summary>
    public void Bind(JournalDevice device)
    {
        string folder = SysfsPaths.Device(device.Address);
        if (Inventory.OverrideOf(files, device.Address) != device.TargetDriver)
            files.Write($"{folder}/driver_override", device.TargetDriver);
        string? driver = Inventory.DriverOf(files, device.Address);
        if (driver == device.TargetDriver)
            return;
        Unbind(device.Address, driver);
        try
        {
            Probe(device.Address, device.TargetDriver);
        }
        catch (HostIoException e) when (e.Errno == Errnos.EINVAL)
        {
            // The driver's word on this device, which it will say again; other errors may be of the moment.
            throw new RefusalException(
                HoldingReasons.BindFailed,
                $"{device.TargetDriver} refuses {device.Address}: {e.Message}; the kernel log (dmesg) says why."
            );
        }

        driver = Inventory.DriverOf(files, device.Address);
        if (driver != device.TargetDriver)
        {
            throw new RefusalException(
                HoldingReasons.BindFailed,
                $"The kernel did not bind {device.Address} to {device.TargetDriver} (it is on {driver ?? "no driver"}); the kernel log (dmesg) says why."
            );
        }
    }

    /// <summary>All devices on their drivers, and their groups' nodes there.</summary>
    /// <returns>What isn't as it should be, as a sentence; null when all is.</returns>
    public string? Verify(JournalEntry entry)
    {
        foreach (JournalDevice device in entry.Devices)
        {
            string? driver = Inventory.DriverOf(files, device.Address);
            if (driver != device.TargetDriver)
                return $"{device.Address} is on {driver ?? "no driver"} instead of {device.TargetDriver}.";
            if (device.Managed && Inventory.OverrideOf(files, device.Address) != device.TargetDriver)
                return $"driver_override of {device.Address} isn't {device.TargetDriver} any more.";

            // A kernel with CONFIG_VFIO_GROUP=n has iommufd's node only.
            if (
                VfioDrivers.IsVfio(driver)
                && device.IommuGroup is { } group
                && !files.Exists(SysfsPaths.GroupNode(group))
                && Inventory.VfioDevice(files, device.Address) is null
            )
            {
                return $"{device.Address} is on {driver}, but {SysfsPaths.GroupNode(group)} isn't there.";
            }
        }

        return null;
    }

    /// <summary>Sets overrides that somebody cleared on devices that are still on their drivers: it disturbs no user.</summary>
    public void RepairOverrides(JournalEntry entry)
    {
        foreach (JournalDevice device in entry.Devices.Where(d => d.Managed && Inventory.DriverOf(files, d.Address) == d.TargetDriver))
            SetOverride(device.Address, device.TargetDriver);
    }

    /// <summary>The process that has a device of the entry open through VFIO, in words; null when none.</summary>
    public string? FindUser(JournalEntry entry)
    {
        var those = new DeviceNodes(files);
        var nodes = new Dictionary<DeviceNumber, string>();
        foreach (KeyValuePair<DeviceNumber, string> node in entry.Devices.SelectMany(d => those.VfioOf(d.Address, d.IommuGroup)))
            nodes[node.Key] = node.Value;
        return nodes.Count == 0 ? null : files.Processes().FindUser(nodes, []);
    }

    /// <summary>Puts every device back as it was, last first; all are tried.</summary>
    /// <param name="entry">The claim.</param>
    /// <param name="unclean">A device whose reset failed: its host driver may not take it, and that is no reason to keep the claim.</param>
    /// <exception cref="RefusalException">RestoreFailed, with every device that couldn't be put back; WriteBlocked when the kernel is still
    /// at it.</exception>
    public void Restore(JournalEntry entry, Func<JournalDevice, bool> unclean)
    {
        var failures = new List<string>();
        bool blocked = true;
        foreach (JournalDevice device in entry.Devices.Reverse())
        {
            try
            {
                if (IsThere(device))
                    Restore(device);
            }
            catch (Exception e) when (e is HostIoException or RefusalException)
            {
                // Pulled out meanwhile: there is nothing to put back.
                if (IsGone(device.Address) || (unclean(device) && LeftUnbound(device)))
                    continue;
                failures.Add(e is RefusalException ? e.Message : $"{device.Address}: {e.Message}");
                blocked &= e is RefusalException { Reason: HoldingReasons.WriteBlocked };
            }
        }

        if (failures.Count > 0)
            throw new RefusalException(blocked ? HoldingReasons.WriteBlocked : HoldingReasons.RestoreFailed, string.Join(' ', failures));
    }

    /// <summary>Whether the very device is at its address: not gone, and not another card in its place.</summary>
    public bool IsThere(JournalDevice device)
    {
        if (Inventory.IdsOf(files, device.Address) is not { } ids || ids.Vendor != device.VendorId || ids.Product != device.ProductId)
            return false;
        string? set = Inventory.OverrideOf(files, device.Address);
        bool ours =
            set is not null && (set == device.TargetDriver || set == device.OriginalDriver)
            || Inventory.DriverOf(files, device.Address) == device.TargetDriver;
        return ours
            || new Inventory(files).IdentityOf(device.Address) is not { } now
            || DeviceIdentity.Difference(device.Address, KnownDevice.Of(device), now, ours) is null;
    }

    /// <summary>A device of the entry that is still on the claim's driver, as a sentence; null when none is.</summary>
    public string? StillBound(JournalEntry entry)
    {
        foreach (JournalDevice device in entry.Devices.Where(d => d.Managed && d.TargetDriver != d.OriginalDriver))
        {
            if (
                Inventory.IdsOf(files, device.Address) is { } ids
                && ids.Vendor == device.VendorId
                && ids.Product == device.ProductId
                && Inventory.DriverOf(files, device.Address) == device.TargetDriver
            )
            {
                return $"{device.Address} is still on {device.TargetDriver}, and the claim can't go before it is back on {device.OriginalDriver ?? "no driver"}: driverctl unset-override {device.Address} puts it back by hand.";
            }
        }

        return null;
    }

    /// <summary>Whether nothing is at an address; false when that can't be seen.</summary>
    public bool IsGone(PciAddress address)
    {
        try
        {
            return !files.Exists(SysfsPaths.Device(address));
        }
        catch (HostIoException)
        {
            return false;
        }
    }

    /// <summary>Whether the device is off the claim's driver and its override is what it was.</summary>
    private bool LeftUnbound(JournalDevice device)
    {
        try
        {
            if (Inventory.DriverOf(files, device.Address) == device.TargetDriver)
                return false;
            SetOverride(device.Address, device.OriginalOverride);
            return true;
        }
        catch (Exception e) when (e is HostIoException or RefusalException)
        {
            return false;
        }
    }

    private void Restore(JournalDevice device)
    {
        // Before its own driver comes back, which takes the MAC that it finds.
        RestoreSettings(device);
        if (!device.Managed)
            return;
        string? driver = Inventory.DriverOf(files, device.Address);
        if (driver is null && IsLeaving(device))
        {
            throw new RefusalException(
                HoldingReasons.WriteBlocked,
                $"The kernel has not finished unbinding {device.Address} from {device.TargetDriver}, which an agent before this one began; it can't be cancelled. A process may still use the device: stop it. The work goes on when the kernel does."
            );
        }

        if ((driver == device.TargetDriver || driver is null) && driver != device.OriginalDriver)
            Rebind(device.Address, driver, device.OriginalDriver, device.OriginalOverride);
        SetOverride(device.Address, device.OriginalOverride);
        RestoreVfs(device);
    }

    /// <summary>
    /// Whether the kernel is still unbinding the device from VFIO for somebody: it shows no driver from the beginning on, and
    /// takes the group's node away at the end. A probe says OK then, and binds nothing.
    /// </summary>
    private bool IsLeaving(JournalDevice device) =>
        VfioDrivers.IsVfio(device.TargetDriver)
        && device.IommuGroup is { } group
        && files.Exists(SysfsPaths.GroupNode(group))
        && !new Inventory(files).GroupMembers(group).Exists(member => VfioDrivers.IsVfio(Inventory.DriverOf(files, member)));

    /// <summary>
    /// From one driver to another. Its override is the new driver's name then, so that no other driver that knows the device gets it.
    /// </summary>
    private void Rebind(PciAddress address, string? from, string? to, string? overrideWithout)
    {
        SetOverride(address, to ?? overrideWithout);
        Unbind(address, from);
        if (to is null)
            return;
        LoadHostDriver(address, to);
        Probe(address, to);
        if (Inventory.DriverOf(files, address) is var driver && driver != to)
        {
            throw new RefusalException(
                HoldingReasons.RestoreFailed,
                $"The kernel did not bind {address} to its own driver {to} again (it is on {driver ?? "no driver"}); the kernel log (dmesg) says why."
            );
        }
    }

    private void SetOverride(PciAddress address, string? wanted)
    {
        if (Inventory.OverrideOf(files, address) == wanted)
            return;
        files.Write($"{SysfsPaths.Device(address)}/driver_override", wanted ?? Clear);
        if (Inventory.OverrideOf(files, address) != wanted)
        {
            throw new RefusalException(
                HoldingReasons.RestoreFailed,
                $"driver_override of {address} is {Inventory.OverrideOf(files, address) ?? "empty"} instead of {wanted ?? "empty"}."
            );
        }
    }

    private void Unbind(PciAddress address, string? driver)
    {
        if (driver is not null)
            Do($"unbinding {address} from {driver}", () => files.Write($"{SysfsPaths.Device(address)}/driver/unbind", address.ToString()));
    }

    private void Probe(PciAddress address, string driver) =>
        Do($"binding {address} to {driver}", () => files.Write(SysfsPaths.DriversProbe, address.ToString()));

    /// <summary>The host's driver may have been unloaded meanwhile: its module is known by the device's modalias.</summary>
    private void LoadHostDriver(PciAddress address, string driver)
    {
        if (!files.Exists(SysfsPaths.Driver(driver)) && files.ReadText($"{SysfsPaths.Device(address)}/modalias") is { } modalias)
            files.LoadModule(modalias);
    }

    private string? Registered(string name)
    {
        string[] spellings = [name, name.Replace('_', '-'), name.Replace('-', '_')];
        return spellings.FirstOrDefault(spelling => files.Exists(SysfsPaths.Driver(spelling)));
    }

    /// <summary>Names a call that may block for long, for the sentence about it.</summary>
    private void Do(string purpose, Action write)
    {
        work.Purpose = purpose;
        try
        {
            write();
        }
        finally
        {
            work.Purpose = null;
        }
    }
}
