using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Sandbox.Hosts;

/// <summary>
/// What the kernel does with PCI devices: binding, override, SR-IOV, VFIO groups; errors and quirks as a real one shows
/// them (Linux 6.12). Not thread-safe: callers hold <see cref="Gate"/>, which blocked writes wait on.
/// </summary>
internal sealed class SimulatedKernel(SimulatedState state, Action changed, Action<Uevent> emit)
{
    /// <summary>Held by every call; pulsed when a process closes its files.</summary>
    public object Gate { get; } = new();

    /// <summary>A call begins to wait for a device's lock.</summary>
    public Action? Waits { get; init; }

    public SimulatedFunction? Find(string address) => state.Functions.Find(f => f.Address == address);

    /// <summary>Whether a process has the VFIO node of the function's group (or its own) open.</summary>
    public bool IsOpen(SimulatedFunction f) =>
        state.Processes.Values.Any(p => p.Files.Contains($"/dev/vfio/{f.Group}") || p.Files.Contains($"/dev/vfio/devices/{CdevName(f)}"));

    /// <summary>"vfio3": unique as long as functions are.</summary>
    public static string CdevName(SimulatedFunction f)
    {
        PciAddress a = f.At;
        return $"vfio{(a.Domain << 16) | (uint)((a.Bus << 8) | (a.Slot << 3) | a.Function)}";
    }

    public void WriteOverride(SimulatedFunction f, string value)
    {
        WaitForDeviceLock(f);
        if (value.Length == 0)
            return;
        string name = value.TrimEnd('\n');
        f.Override = name.Length == 0 ? null : name;
        changed();
    }

    /// <summary>/sys/bus/pci/drivers_probe: says OK also when nothing was bound.</summary>
    public void Probe(string value)
    {
        SimulatedFunction f = Find(value.Trim()) ?? throw Error("drivers_probe", Errnos.ENODEV);
        WaitForDeviceLock(f);
        if (f.Driver is null && Match(f) is { } driver && CanBind(f, driver) == 0)
            Bind(f, driver);
    }

    /// <summary>/sys/bus/pci/drivers/NAME/bind.</summary>
    public void BindTo(string driver, string value)
    {
        SimulatedFunction f = Find(value.Trim()) ?? throw Error("bind", Errnos.ENODEV);
        WaitForDeviceLock(f);
        if (f.Driver is not null)
            throw Error("bind", Errnos.EBUSY);
        if (Match(f, driver) != driver)
            throw Error("bind", Errnos.ENODEV);
        int errno = CanBind(f, driver);
        if (errno != 0)
            throw Error("bind", errno);
        Bind(f, driver);
    }

    /// <summary>/sys/bus/pci/drivers/NAME/unbind: blocks while a process has the device open through VFIO.</summary>
    public void UnbindFrom(string driver, string value)
    {
        SimulatedFunction? f = Find(value.Trim());
        if (f is null)
            throw Error("unbind", Errnos.ENODEV);
        WaitForDeviceLock(f);
        if (f.Driver != driver)
            throw Error("unbind", Errnos.ENODEV);
        Unbind(f);
    }

    /// <summary>Reading these waits for the device's lock, as since Linux 5.6.</summary>
    public byte[] ShowNumVfs(SimulatedFunction pf)
    {
        WaitForDeviceLock(pf);
        return System.Text.Encoding.UTF8.GetBytes($"{pf.Sriov!.NumVfs}\n");
    }

    /// <summary>See <see cref="ShowNumVfs"/>.</summary>
    public byte[] ShowOverride(SimulatedFunction f)
    {
        WaitForDeviceLock(f);
        return System.Text.Encoding.UTF8.GetBytes($"{f.Override ?? "(null)"}\n");
    }

    public void WriteNumVfs(SimulatedFunction pf, string value)
    {
        SimulatedSriov sriov = pf.Sriov!;
        if (!int.TryParse(value.Trim(), out int wanted) || wanted < 0)
            throw Error("sriov_numvfs", Errnos.EINVAL);
        if (wanted > sriov.Total)
            throw Error("sriov_numvfs", Errnos.ERANGE);
        WaitForDeviceLock(pf);
        Locked(pf, () => SetNumVfs(pf, sriov, wanted));
    }

    private void SetNumVfs(SimulatedFunction pf, SimulatedSriov sriov, int wanted)
    {
        if (wanted == sriov.NumVfs)
            return;
        if (!pf.HasHostDriver)
            throw Error("sriov_numvfs", Errnos.ENOENT);
        if (wanted == 0)
        {
            RemoveVfs(pf);
            return;
        }

        if (sriov.NumVfs > 0)
            throw Error("sriov_numvfs", Errnos.EBUSY);
        if (sriov.Errno != 0)
            throw Error("sriov_numvfs", sriov.Errno);
        sriov.NumVfs = Math.Min(wanted, sriov.Most ?? wanted);
        if (!sriov.Slow)
            ShowVfs(pf);
        changed();
        emit(Event("change", pf));
    }

    /// <summary>The VFs that are counted and not there yet appear.</summary>
    public void ShowVfs(SimulatedFunction pf)
    {
        for (int i = 0; i < pf.Sriov!.NumVfs; i++)
        {
            if (!state.Functions.Exists(f => f.PhysFn == pf.Address && f.VfIndex == i))
                AddVf(pf, pf.Sriov, i);
        }
    }

    /// <summary>rtnetlink's view of a VF through its PF's interface; null when the interface isn't to be seen or has no such VF.</summary>
    public SimulatedFunction? VfOf(string pfInterface, int vf)
    {
        SimulatedFunction? pf = state.Functions.Find(f => f.HasHostDriver && f.Interfaces.Exists(i => !i.InPod && i.Name == pfInterface));
        return pf is null ? null : state.Functions.Find(f => f.PhysFn == pf.Address && f.VfIndex == vf && f.VfSettings is not null);
    }

    /// <summary>rtnetlink's counters of an interface's VFs: zeros when its driver counts nothing.</summary>
    public Dictionary<int, VfTraffic> TrafficOf(string pfInterface)
    {
        SimulatedFunction? pf = state.Functions.Find(f => f.HasHostDriver && f.Interfaces.Exists(i => !i.InPod && i.Name == pfInterface));
        return state
            .Functions.Where(f => pf is not null && f.PhysFn == pf.Address && f.VfSettings is not null)
            .ToDictionary(f => f.VfIndex, f => pf!.Sriov!.TrafficOf(f.VfIndex));
    }

    /// <summary>RTM_SETLINK, one attribute after the other: what the PF's driver doesn't know is EOPNOTSUPP, the rest is set.</summary>
    public void WriteVfSettings(string pfInterface, int number, VfSettings wanted)
    {
        SimulatedFunction vf = VfOf(pfInterface, number) ?? throw new HostIoException("set VF settings of", pfInterface, Errnos.ENODEV);
        List<string> refused = Find(vf.PhysFn!)!.Sriov!.RefusedSettings;
        var failed = new List<string>();
        VfSettings now = vf.VfSettings!;
        void Set(string name, bool differs, Func<VfSettings, VfSettings> set)
        {
            if (differs && refused.Contains(name))
                failed.Add($"ip link set {pfInterface} vf {number} {name}: EOPNOTSUPP (not supported).");
            else if (differs)
                now = set(now);
        }

        bool mac = now.Mac != wanted.Mac;
        Set("mac", mac, s => s with { Mac = wanted.Mac });
        Set(
            "vlan",
            (now.Vlan, now.VlanQos, now.VlanProtocol) != (wanted.Vlan, wanted.VlanQos, wanted.VlanProtocol),
            s => s with { Vlan = wanted.Vlan, VlanQos = wanted.VlanQos, VlanProtocol = wanted.VlanProtocol }
        );
        Set(
            "rate",
            (now.MinTxRate, now.MaxTxRate) != (wanted.MinTxRate, wanted.MaxTxRate),
            s => s with { MinTxRate = wanted.MinTxRate, MaxTxRate = wanted.MaxTxRate }
        );
        Set(
            "spoofchk",
            wanted.SpoofCheck is not null && now.SpoofCheck != wanted.SpoofCheck,
            s => s with { SpoofCheck = wanted.SpoofCheck }
        );
        Set("state", now.LinkState != wanted.LinkState, s => s with { LinkState = wanted.LinkState });
        Set("trust", wanted.Trust is not null && now.Trust != wanted.Trust, s => s with { Trust = wanted.Trust });
        if (mac && now.Mac == wanted.Mac)
            vf.MacByPf = wanted.Mac != VfSettings.NoMac;
        vf.VfSettings = now;
        changed();
        if (failed.Count > 0)
            throw new HostIoException("set VF settings of", pfInterface, Errnos.EOPNOTSUPP, string.Join(' ', failed));
    }

    /// <summary>A device appears: it gets a group and its driver.</summary>
    public void Add(SimulatedFunction f)
    {
        if (f.Group is { } group)
            state.NextGroup = Math.Max(state.NextGroup, group + 1);
        else if (!f.IsBridge || state.Iommu)
            f.Group = state.NextGroup++;
        state.Functions.Add(f);
        if (f.HostDriver is { } driver)
            state.Drivers.Add(driver);
        changed();
        emit(Event("add", f));
        if (f.Driver is null && f.HostDriver is not null && (f.PhysFn is null || Find(f.PhysFn)!.Sriov!.Autoprobe))
            Bind(f, f.HostDriver);
    }

    /// <summary>A device disappears, in order or by surprise.</summary>
    public void Remove(SimulatedFunction f)
    {
        if (f.Sriov is { NumVfs: > 0 })
            RemoveVfs(f);
        if (f.Driver is not null)
            emit(Event("unbind", f));
        state.Functions.Remove(f);
        f.Driver = null;
        changed();
        emit(Event("remove", f));
    }

    /// <summary>A process has closed its files: blocked writes may go on.</summary>
    public void Closed() => Monitor.PulseAll(Gate);

    /// <summary>The kernel finishes what an ended process had begun.</summary>
    public void FinishUnbinding()
    {
        foreach (SimulatedFunction f in state.Functions.Where(f => f.UnbindingFrom is not null && !IsOpen(f)))
            f.UnbindingFrom = null;
    }

    private void AddVf(SimulatedFunction pf, SimulatedSriov sriov, int index)
    {
        PciAddress at = pf.At;
        int routing = (at.Bus << 8) + (at.Slot << 3) + at.Function + sriov.Offset + (index * sriov.Stride);
        var vf = new SimulatedFunction
        {
            Address = new PciAddress(at.Domain, routing >> 8, (routing >> 3) & 0x1f, routing & 7).ToString(),
            Ids = $"{pf.Ids[..4]}:{sriov.VfProduct}",
            SubsystemIds = pf.SubsystemIds,
            Class = pf.Class,
            Bridge = pf.Bridge,
            Numa = pf.Numa,
            HostDriver = sriov.VfDriver,
            ResetMethods = "flr",
            PhysFn = pf.Address,
            VfIndex = index,
            VfSettings = pf.Interfaces.Count > 0 ? VfSettings.Default : null,
            Group = sriov.VfGroup ?? state.NextGroup++,
            Interfaces =
                pf.Interfaces.Count > 0 && sriov.VfDriver is not null
                    ? [new SimulatedInterface { Name = $"{pf.Interfaces[0].Name}v{index}" }]
                    : [],
        };
        Add(vf);
    }

    private void RemoveVfs(SimulatedFunction pf)
    {
        foreach (SimulatedFunction vf in state.Functions.Where(f => f.PhysFn == pf.Address).ToList())
        {
            WaitForDeviceLock(vf);
            if (vf.Driver is not null)
                Unbind(vf);
            state.Functions.Remove(vf);
            emit(Event("remove", vf));
        }

        pf.Sriov!.NumVfs = 0;
        changed();
    }

    /// <summary>The driver that would take the device: the override alone when there is one.</summary>
    private string? Match(SimulatedFunction f, string? wanted = null)
    {
        string? driver = f.Override ?? (wanted is null || wanted == f.HostDriver ? f.HostDriver : null);
        bool knows = driver is not null && (f.Override is not null || driver == f.HostDriver);
        return knows && state.Drivers.Contains(driver!) ? driver : null;
    }

    private int CanBind(SimulatedFunction f, string driver)
    {
        if (f.FailingDrivers.Contains(driver))
            return Errnos.EIO;
        bool vfio = driver.EndsWith("vfio-pci", StringComparison.Ordinal);
        if (vfio)
            return f.Group is null || (!state.Iommu && !state.UnsafeNoIommu) ? Errnos.EINVAL : 0;
        if (driver == "pci-stub")
            return 0;
        if (driver != f.HostDriver)
            return Errnos.ENODEV;
        bool groupInUse = state.Functions.Any(m => m.Group == f.Group && m.OnVfio && IsOpen(m));
        return groupInUse ? Errnos.EBUSY : 0;
    }

    private void Bind(SimulatedFunction f, string driver)
    {
        f.Driver = driver;

        // A VF's driver chooses a MAC when its PF gave it none, and tells the PF (igbvf, ixgbevf).
        if (f.HasHostDriver && f.VfSettings is { Mac: VfSettings.NoMac } settings)
            f.VfSettings = settings with { Mac = $"6a:00:00:00:{state.NextMac >> 8 & 0xff:x2}:{state.NextMac++ & 0xff:x2}" };
        changed();
        if (f.OnVfio && state.Functions.Count(m => m.Group == f.Group && m.OnVfio) == 1)
        {
            emit(
                new Uevent
                {
                    Action = "add",
                    DevPath = $"/devices/virtual/vfio/{f.Group}",
                    Subsystem = "vfio",
                }
            );
        }

        foreach (SimulatedInterface i in f.Interfaces.Where(_ => f.HasHostDriver))
        {
            emit(
                new Uevent
                {
                    Action = "add",
                    DevPath = $"{DevPath(f)}/net/{i.Name}",
                    Subsystem = "net",
                }
            );
        }

        emit(Event("bind", f));
    }

    private void Unbind(SimulatedFunction f)
    {
        if (f.Sriov is { NumVfs: > 0 })
            RemoveVfs(f);
        List<SimulatedInterface> interfaces = f.HasHostDriver ? f.Interfaces : [];

        // The driver link goes first; the rest of the way waits for the device's users, with the device locked.
        f.UnbindingFrom = f.Driver;
        f.Driver = null;
        changed();
        while (f.UnbindingFrom!.EndsWith("vfio-pci", StringComparison.Ordinal) && IsOpen(f) && state.Functions.Contains(f))
            Monitor.Wait(Gate);
        f.UnbindingFrom = null;
        if (f is { VfSettings: { } settings, MacByPf: false })
            f.VfSettings = settings with { Mac = VfSettings.NoMac };
        Monitor.PulseAll(Gate);
        changed();
        foreach (SimulatedInterface i in interfaces)
        {
            emit(
                new Uevent
                {
                    Action = "remove",
                    DevPath = $"{DevPath(f)}/net/{i.Name}",
                    Subsystem = "net",
                }
            );
        }

        emit(Event("unbind", f));
    }

    /// <summary>Does something that may wait, with the device locked; null: no device.</summary>
    public void Locked(SimulatedFunction? f, Action action)
    {
        try
        {
            if (f is not null)
                f.Locked = true;
            action();
        }
        finally
        {
            if (f is not null)
                f.Locked = false;
            Monitor.PulseAll(Gate);
        }
    }

    /// <summary>As reading driver_override and sriov_numvfs does, too (pci-sysfs.c, iov.c: device_lock).</summary>
    public void WaitForDeviceLock(SimulatedFunction f)
    {
        while (f.UnbindingFrom is not null || f.Locked)
        {
            if (!f.Locked && !IsOpen(f))
            {
                f.UnbindingFrom = null;
                changed();
                return;
            }

            Waits?.Invoke();
            Monitor.Wait(Gate);
        }
    }

    /// <summary>"/devices/pci0000:20/0000:20:00.0/0000:21:00.0".</summary>
    public string DevPath(SimulatedFunction f)
    {
        if (f.Bridge is not null && Find(f.Bridge) is { } bridge)
            return $"{DevPath(bridge)}/{f.Address}";
        return $"/devices/pci{f.Address[..7]}/{f.Address}";
    }

    private Uevent Event(string action, SimulatedFunction f) =>
        new()
        {
            Action = action,
            DevPath = DevPath(f),
            Subsystem = "pci",
            PciSlotName = f.Address,
        };

    private static HostIoException Error(string file, int errno) => new("write to", $"/{file}", errno);
}
