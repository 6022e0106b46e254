using System.Buffers.Binary;
using System.Globalization;
using PciOperator.Host;

namespace PciOperator.Sandbox.Hosts;

/// <summary>The files that a simulated kernel shows: /sys, /proc, /dev and the regular files, as one tree.</summary>
internal static class SimulatedSysfs
{
    public const int AgentPid = 4711;
    private const int VfioGroupMajor = 240;
    private const int VfioDeviceMajor = 241;
    private const int NvmeBlockMajor = 259;
    private const int NvmeGenericMajor = 237;
    private const int StackMajor = 253;

    public static FileTree Build(SimulatedState state, SimulatedKernel kernel, SimulatedResets resets)
    {
        var tree = new FileTree();
        tree.MakeFolder("/sys/bus/pci/devices");
        tree.MakeFolder("/sys/class/net");
        tree.MakeFolder("/sys/class/block");
        tree.MakeFolder("/sys/kernel/iommu_groups");
        tree.Put("/sys/bus/pci/drivers_probe", new FileTree.File(null, kernel.Probe));
        foreach (string driver in state.Drivers)
        {
            tree.Put($"/sys/bus/pci/drivers/{driver}/bind", new FileTree.File(null, value => kernel.BindTo(driver, value)));
            tree.Put($"/sys/bus/pci/drivers/{driver}/unbind", new FileTree.File(null, value => kernel.UnbindFrom(driver, value)));
        }

        var indexes = SimulatedNetwork.Interfaces(state).ToDictionary(i => i.Net, i => i.Index);
        foreach (SimulatedFunction f in state.Functions)
            AddFunction(tree, state, kernel, resets, f, indexes);
        AddStacks(tree, state);
        AddSystem(tree, state);
        AddProc(tree, state);
        foreach ((string path, byte[] content) in state.Files)
            PutFile(tree, path, content);
        foreach ((string path, string target) in state.Links)
            tree.Put(path, new FileTree.Link(target));
        return tree;
    }

    /// <summary>A regular file.</summary>
    public static void PutFile(FileTree tree, string path, byte[] content) =>
        tree.Put(
            path.StartsWith("/proc/1/root/", StringComparison.Ordinal) ? path["/proc/1/root".Length..] : path,
            new FileTree.File(() => content, null)
        );

    public static DeviceNumber NumberOf(SimulatedDisk disk) => new(true, NvmeBlockMajor, (uint)disk.Minor);

    private static void AddFunction(
        FileTree tree,
        SimulatedState state,
        SimulatedKernel kernel,
        SimulatedResets resets,
        SimulatedFunction f,
        Dictionary<SimulatedInterface, int> indexes
    )
    {
        string devPath = kernel.DevPath(f);
        string folder = "/sys" + devPath;
        string up = string.Concat(Enumerable.Repeat("../", devPath.Count(c => c == '/')));
        tree.Put($"/sys/bus/pci/devices/{f.Address}", new FileTree.Link($"../../..{devPath}"));
        tree.MakeFolder(folder).FillLater(own => Fill(own, state, kernel, resets, f, up));
        if (f.Driver is not null)
            tree.Put($"/sys/bus/pci/drivers/{f.Driver}/{f.Address}", new FileTree.Link($"../../../..{devPath}"));
        if (GroupOf(state, f) is { } group)
        {
            tree.Put($"/sys/kernel/iommu_groups/{group}/devices/{f.Address}", new FileTree.Link($"../../../..{devPath}"));
            if (f.OnVfio)
                AddVfio(tree, folder, f, group, state.VfioGroups);
        }

        if (f.Slot is not null)
            tree.Text($"/sys/bus/pci/slots/{f.Slot}/address", f.Address[..f.Address.LastIndexOf('.')]);
        if (f.HasHostDriver)
            AddChildren(tree, folder, f, indexes);
    }

    /// <summary>The group that a function is in for all to see.</summary>
    private static int? GroupOf(SimulatedState state, SimulatedFunction f) =>
        state.Iommu || (state.UnsafeNoIommu && f.OnVfio) ? f.Group : null;

    /// <summary>What only the function's own folder shows.</summary>
    private static void Fill(
        FileTree.Folder own,
        SimulatedState state,
        SimulatedKernel kernel,
        SimulatedResets resets,
        SimulatedFunction f,
        string up
    )
    {
        string[] ids = f.Ids.Split(':');
        string[] subsystem = (f.SubsystemIds ?? f.Ids).Split(':');
        own.Text("vendor", $"0x{ids[0]}");
        own.Text("device", $"0x{ids[1]}");
        own.Text("subsystem_vendor", $"0x{subsystem[0]}");
        own.Text("subsystem_device", $"0x{subsystem[1]}");
        own.Text("class", $"0x{f.Class:x6}");
        own.Text("numa_node", f.Numa.ToString(CultureInfo.InvariantCulture));
        own.Text(
            "modalias",
            $"pci:v0000{ids[0].ToUpperInvariant()}d0000{ids[1].ToUpperInvariant()}sv0000{subsystem[0].ToUpperInvariant()}sd0000{subsystem[1].ToUpperInvariant()}bc{f.Class >> 16:X2}sc{(f.Class >> 8) & 0xff:X2}i{f.Class & 0xff:X2}"
        );
        own.Put("driver_override", new FileTree.File(() => kernel.ShowOverride(f), value => kernel.WriteOverride(f, value)));
        own.Put("subsystem", new FileTree.Link($"{up}bus/pci"));
        own.Put("config", new FileTree.File(() => f.OffTheBus ? AllOnes() : Config(f, ids), null));
        AddHealth(own, f);
        if (f.Driver is not null)
            own.Put("driver", new FileTree.Link($"{up}bus/pci/drivers/{f.Driver}"));
        if (GroupOf(state, f) is { } group)
            own.Put("iommu_group", new FileTree.Link($"{up}kernel/iommu_groups/{group}"));
        if (f.ResetMethods.Length > 0 && !f.IsBridge)
        {
            own.Text("reset_method", f.ChosenResets ?? f.ResetMethods, value => SimulatedResets.Choose(f, value));
            own.Put("reset", new FileTree.File(null, value => resets.Reset(f, value)));
        }

        if (f.Class >> 16 == 0x03)
            own.Text("boot_vga", f.BootVga ? "1" : "0");
        if (f.PhysFn is not null)
            own.Put("physfn", new FileTree.Link($"../{f.PhysFn}"));
        if (f.Sriov is not null)
            AddSriov(own, state, kernel, f, f.Sriov);
    }

    /// <summary>Power state, link and error counters (Documentation/ABI/testing/sysfs-bus-pci, …-aer).</summary>
    private static void AddHealth(FileTree.Folder own, SimulatedFunction f)
    {
        own.Text("power/runtime_status", f.RuntimeStatus);
        own.Text("power_state", f.PowerState);
        if (f.PhysFn is not null)
            return;
        if (f.Link is { } link)
        {
            own.Text(
                "current_link_speed",
                f.OffTheBus ? "Unknown" : string.Create(CultureInfo.InvariantCulture, $"{link.Speed:0.0} GT/s PCIe")
            );
            own.Text("current_link_width", f.OffTheBus ? "63" : $"{link.Width}");
            own.Text("max_link_speed", string.Create(CultureInfo.InvariantCulture, $"{link.MaxSpeed:0.0} GT/s PCIe"));
            own.Text("max_link_width", $"{link.MaxWidth}");
        }

        if (f.Errors is { } errors)
        {
            own.Text("aer_dev_correctable", $"RxErr {errors.Correctable}\nBadTLP 0\nBadDLLP 0\nTOTAL_ERR_COR {errors.Correctable}");
            own.Text("aer_dev_nonfatal", $"UnsupReq {errors.Nonfatal}\nTOTAL_ERR_NONFATAL {errors.Nonfatal}");
            own.Text("aer_dev_fatal", $"DLP {errors.Fatal}\nTOTAL_ERR_FATAL {errors.Fatal}");
        }
    }

    private static void AddVfio(FileTree tree, string folder, SimulatedFunction f, int group, bool hasGroups)
    {
        if (hasGroups)
            tree.Put($"/dev/vfio/{group}", new FileTree.Node(new DeviceNumber(false, VfioGroupMajor, (uint)group)));
        if (f.Driver is null)
            return;
        string name = SimulatedKernel.CdevName(f);
        uint minor = uint.Parse(name.AsSpan(4), CultureInfo.InvariantCulture);
        tree.Text($"{folder}/vfio-dev/{name}/dev", $"{VfioDeviceMajor}:{minor}");
        tree.Put($"/dev/vfio/devices/{name}", new FileTree.Node(new DeviceNumber(false, VfioDeviceMajor, minor)));
    }

    private static void AddSriov(
        FileTree.Folder own,
        SimulatedState state,
        SimulatedKernel kernel,
        SimulatedFunction pf,
        SimulatedSriov sriov
    )
    {
        own.Text("sriov_totalvfs", $"{sriov.Total}");
        own.Put("sriov_numvfs", new FileTree.File(() => kernel.ShowNumVfs(pf), value => kernel.WriteNumVfs(pf, value)));
        own.Text("sriov_vf_device", sriov.VfProduct);
        own.Text("sriov_offset", $"{sriov.Offset}");
        own.Text("sriov_stride", $"{sriov.Stride}");
        own.Text(
            "sriov_drivers_autoprobe",
            sriov.Autoprobe ? "1" : "0",
            value =>
                sriov.Autoprobe = value.Trim() switch
                {
                    "1" or "y" or "Y" => true,
                    "0" or "n" or "N" => false,
                    _ => throw new HostIoException("write to", "/sriov_drivers_autoprobe", Errnos.EINVAL),
                }
        );
        foreach (SimulatedFunction vf in state.Functions.Where(v => v.PhysFn == pf.Address))
            own.Put($"virtfn{vf.VfIndex}", new FileTree.Link($"../{vf.Address}"));
    }

    /// <summary>What the host driver makes: interfaces, disks, character devices.</summary>
    private static void AddChildren(FileTree tree, string folder, SimulatedFunction f, Dictionary<SimulatedInterface, int> indexes)
    {
        foreach (SimulatedInterface net in f.Interfaces.Where(i => !i.InPod))
        {
            string at = $"{folder}/net/{net.Name}";
            tree.Put($"/sys/class/net/{net.Name}", new FileTree.Link($"../..{at["/sys".Length..]}"));
            tree.Text($"{at}/flags", net.Up ? "0x1003" : "0x1002");
            tree.Text($"{at}/ifindex", $"{indexes[net]}");
            if (net.Master is not null)
                tree.Put($"{at}/master", new FileTree.Link($"/sys/devices/virtual/net/{net.Master}"));
            if ((net.Master ?? net.Upper) is { } upper)
            {
                tree.Put($"{at}/upper_{upper}", new FileTree.Link($"/sys/devices/virtual/net/{upper}"));
                tree.Put($"/sys/class/net/{upper}", new FileTree.Link($"../../devices/virtual/net/{upper}"));
                tree.Put($"/sys/devices/virtual/net/{upper}/lower_{net.Name}", new FileTree.Link(at));
                tree.Text($"/sys/devices/virtual/net/{upper}/flags", "0x1003");
            }
        }

        foreach (SimulatedDisk disk in f.Disks)
        {
            string controller = disk.Name.Split('n') is ["", var rest, ..] ? $"n{rest}" : disk.Name;
            string above = disk.Multipath
                ? $"/sys/devices/virtual/nvme-subsystem/{controller.Replace("nvme", "nvme-subsys", StringComparison.Ordinal)}"
                : $"{folder}/nvme/{controller}";
            string at = disk.PartitionOf is null ? $"{above}/{disk.Name}" : $"{above}/{disk.PartitionOf}/{disk.Name}";
            if (disk.Multipath)
            {
                string subsystem = above[(above.LastIndexOf('/') + 1)..];
                tree.Put($"/sys/class/nvme-subsystem/{subsystem}", new FileTree.Link($"../..{above["/sys".Length..]}"));
                tree.Put($"{above}/{controller}", new FileTree.Link($"../../../..{folder["/sys/devices".Length..]}/nvme/{controller}"));
                tree.MakeFolder($"{folder}/nvme/{controller}");
            }

            tree.Put($"/sys/class/block/{disk.Name}", new FileTree.Link($"../..{at["/sys".Length..]}"));
            tree.Put($"{at}/subsystem", new FileTree.Link("/sys/class/block"));
            tree.Text($"{at}/dev", $"{NvmeBlockMajor}:{disk.Minor}");
            tree.MakeFolder($"{at}/holders");
            if (disk.PartitionOf is null)
            {
                string generic = $"ng{disk.Name[4..]}";
                tree.Text($"{above}/{generic}/dev", $"{NvmeGenericMajor}:{disk.Minor}");
                tree.Put($"/dev/{generic}", new FileTree.Node(new DeviceNumber(false, NvmeGenericMajor, (uint)disk.Minor)));
            }

            tree.Put($"/dev/{disk.Name}", new FileTree.Node(NumberOf(disk)));
        }

        foreach (SimulatedNode node in f.Nodes)
        {
            tree.Text($"{folder}/nodes/{node.Name.Replace('/', '!')}/dev", $"{node.Major}:{node.Minor}");
            tree.Text(
                $"{folder}/nodes/{node.Name.Replace('/', '!')}/uevent",
                $"MAJOR={node.Major}\nMINOR={node.Minor}\nDEVNAME={node.Name}"
            );
            tree.Put($"/dev/{node.Name}", new FileTree.Node(new DeviceNumber(false, (uint)node.Major, (uint)node.Minor)));
        }
    }

    private static void AddStacks(FileTree tree, SimulatedState state)
    {
        foreach (SimulatedStack stack in state.Stacks)
        {
            string at = $"/sys/devices/virtual/block/{stack.Name}";
            tree.Put($"/sys/class/block/{stack.Name}", new FileTree.Link($"../..{at["/sys".Length..]}"));
            tree.Text($"{at}/dev", $"{StackMajor}:{stack.Minor}");
            tree.MakeFolder($"{at}/holders");
            if (stack.MapperName is not null)
                tree.Text($"{at}/dm/name", stack.MapperName);
            tree.Put($"/dev/{stack.Name}", new FileTree.Node(new DeviceNumber(true, StackMajor, (uint)stack.Minor)));
            foreach (string below in stack.On)
            {
                tree.Put($"{at}/slaves/{below}", new FileTree.Link($"/sys/class/block/{below}"));
                if (!stack.WithoutHolders)
                    tree.Put($"{Place(tree, below)}/holders/{stack.Name}", new FileTree.Link(at));
            }
        }
    }

    /// <summary>Where a block device is, since nothing can be put through a link.</summary>
    private static string Place(FileTree tree, string block) =>
        tree.Find($"/sys/class/block/{block}", followLast: false) is FileTree.Link link
            ? $"/sys{link.Target["../..".Length..]}"
            : $"/sys/class/block/{block}";

    private static void AddSystem(FileTree tree, SimulatedState state)
    {
        foreach ((int number, SimulatedNumaNode node) in state.NumaNodes)
        {
            tree.Text($"/sys/devices/system/node/node{number}/cpulist", node.Cpus);
            string first = node.Cpus.Split(',', '-')[0];
            tree.Text($"/sys/devices/system/cpu/cpu{first}/topology/physical_package_id", $"{node.Socket}");
        }

        tree.Text("/proc/cpuinfo", $"processor\t: 0\nvendor_id\t: {state.CpuVendor}\nflags\t\t: fpu vme de");
        tree.Text("/sys/firmware/acpi/tables/FACP", "FACP");
        bool intel = state.CpuVendor == "GenuineIntel";
        if (state.FirmwareIommu)
            tree.Text($"/sys/firmware/acpi/tables/{(intel ? "DMAR" : "IVRS")}", intel ? "DMAR".PadRight(37, '.') + "\u0001" : "IVRS");
        tree.Text("/sys/kernel/irq/0/chip_name", state is { Iommu: true, InterruptRemapping: true } ? "IR-IO-APIC" : "IO-APIC");
        if (state.UnsafeNoIommu)
            tree.Text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
        if (state.Drivers.Contains("vfio-pci"))
            tree.Put("/dev/vfio/vfio", new FileTree.Node(new DeviceNumber(false, 10, 196)));
        if (state.Iommufd)
            tree.Put("/dev/iommu", new FileTree.Node(new DeviceNumber(false, 10, 126)));
        if (state.Loadable.Count > 0)
        {
            tree.Text(
                $"/lib/modules/{state.KernelVersion}/modules.dep",
                string.Join('\n', state.Loadable.Select(name => $"kernel/drivers/vfio/pci/{name}.ko:"))
            );
        }

        tree.Text("/usr/share/misc/pci.ids", state.PciIds);
    }

    private static void AddProc(FileTree tree, SimulatedState state)
    {
        List<SimulatedDisk> disks = [.. state.Functions.Where(f => f.HasHostDriver).SelectMany(f => f.Disks)];
        tree.Text("/proc/cmdline", state.CommandLine);
        tree.Text("/proc/sys/kernel/osrelease", state.KernelVersion);
        tree.Text("/proc/sys/kernel/random/boot_id", state.BootId);
        tree.Text(
            "/proc/swaps",
            Lines(
                "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority",
                disks
                    .Where(d => d.Swap)
                    .Select(d => d.Name)
                    .Concat(state.Stacks.Where(s => s.Swap).Select(s => s.Name))
                    .Select(name => $"/dev/{name}                             partition\t8388604\t\t0\t\t-2")
            )
        );
        tree.Text(
            "/proc/1/mountinfo",
            Lines(
                "21 1 0:19 / /sys rw,nosuid shared:2 - sysfs sysfs rw",
                disks
                    .Where(d => d.MountedAt is not null)
                    .Select(
                        (d, i) =>
                            $"{30 + i} 1 {(d.AnonymousMount ? $"0:{40 + i}" : $"{NvmeBlockMajor}:{d.Minor}")} / {d.MountedAt!.Replace(" ", "\\040", StringComparison.Ordinal)} rw,relatime shared:1 - ext4 /dev/{d.Name} rw"
                    )
                    .Concat(
                        state
                            .Stacks.Where(s => s.MountedAt is not null)
                            .Select(
                                (s, i) =>
                                    $"{60 + i} 1 {StackMajor}:{s.Minor} / {s.MountedAt} rw,relatime shared:1 - xfs /dev/mapper/{s.MapperName ?? s.Name} rw"
                            )
                    )
            )
        );
        tree.Text(
            "/proc/1/net/packet",
            Lines("sk               RefCnt Type Proto  Iface R Rmem   User   Inode", SimulatedNetwork.PacketSockets(state))
        );
        tree.Text("/proc/1/net/ptype", Lines("Type Device      Function", SimulatedNetwork.Protocols(state)));
        tree.Put("/proc/1/root", new FileTree.Link("/"));
        AddProcess(tree, 1, "systemd", [], "net:[4026531840]", "pid:[4026531836]");
        AddProcess(tree, AgentPid, "agent", [], state.AgentSeesHost ? "net:[4026531840]" : "net:[4026532001]", "pid:[4026531836]");
        tree.Put("/proc/self", new FileTree.Link($"{AgentPid}"));
        foreach ((int pid, SimulatedProcess process) in state.Processes)
        {
            AddProcess(tree, pid, process.Name, process.Files, process.NetNamespace ?? "net:[4026531840]", "pid:[4026531836]");
            if (process.NetNamespace is not null)
                tree.Put($"/proc/{pid}/ns/mnt", new FileTree.Link($"mnt:[{pid}]"));
            tree.Text(
                $"/proc/{pid}/maps",
                Lines(
                    "55d0c0a00000-55d0c0a21000 r-xp 00000000 fd:01 4711                       /usr/bin/tool",
                    process.Maps.Select(
                        (path, i) => $"7f00000{i}0000-7f00000{i}1000 rw-s 00000000 00:16 {100 + i}                        {path}"
                    )
                )
            );
        }
    }

    private static void AddProcess(FileTree tree, int pid, string name, List<string> open, string net, string pidSpace)
    {
        tree.Text($"/proc/{pid}/comm", name);
        tree.Put($"/proc/{pid}/ns/net", new FileTree.Link(net));
        tree.Put($"/proc/{pid}/ns/pid", new FileTree.Link(pidSpace));
        tree.Put($"/proc/{pid}/ns/mnt", new FileTree.Link("mnt:[4026531841]"));
        tree.Put($"/proc/{pid}/fd/0", new FileTree.Link("/dev/null"));
        tree.Put($"/proc/{pid}/fd/1", new FileTree.Link("socket:[12345]"));
        for (int i = 0; i < open.Count; i++)
            tree.Put($"/proc/{pid}/fd/{i + 3}", new FileTree.Link(open[i]));
    }

    private static string Lines(string first, IEnumerable<string> rest) => string.Join('\n', rest.Prepend(first));

    internal static byte[] AllOnes()
    {
        byte[] config = new byte[4096];
        config.AsSpan().Fill(0xff);
        return config;
    }

    /// <summary>Configuration space: ids, and the Device Serial Number capability when there is a serial.</summary>
    internal static byte[] Config(SimulatedFunction f, string[] ids, bool throughVfio = false)
    {
        string? serial = f.Serial;
        byte[] config = new byte[serial is null ? 256 : 4096];
        // A VF's ids read ffff; the kernel knows them from its PF, and VFIO fills them in for the guest.
        if (f.PhysFn is not null && !throughVfio)
            ids = ["ffff", "ffff"];
        BinaryPrimitives.WriteUInt16LittleEndian(config, ushort.Parse(ids[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
        BinaryPrimitives.WriteUInt16LittleEndian(
            config.AsSpan(2),
            ushort.Parse(ids[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture)
        );
        if (serial is not null)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(config.AsSpan(0x100), 0x0001_0003);
            BinaryPrimitives.WriteUInt64LittleEndian(
                config.AsSpan(0x104),
                ulong.Parse(serial, NumberStyles.HexNumber, CultureInfo.InvariantCulture)
            );
        }

        return config;
    }
}
