using System.Collections.Concurrent;
using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Reads PCI functions from sysfs. Facts of the host's use (netdevs, guards) come from <see cref="HostUse"/>.</summary>
internal sealed class Inventory(IHostFileSystem files)
{
    private const int NetworkClass = 0x02;
    private const int DisplayClass = 0x03;
    private const int AcceleratorClass = 0x12;
    private const int BridgeClass = 0x06;
    private const int MemoryClass = 0x05;
    private const int ConfigSpace = 4096;
    private const int HeaderType = 0x0e;

    // Serial number fields sit in the first part; some devices take milliseconds for each word.
    private const int VpdBytes = 1024;

    private readonly PciNames _names = new(files);

    // What a card never changes is read once: serial numbers wake a sleeping device and are slow to read.
    private readonly ConcurrentDictionary<PciAddress, FixedFacts> _known = [];

    // What was known of functions that are to be read again: a number that can't be read now is still what it was.
    private readonly ConcurrentDictionary<PciAddress, FixedFacts> _before = [];

    /// <summary>All functions by address; what can't be read is left out and named in <paramref name="problems"/>.</summary>
    /// <param name="use">How the host uses its devices.</param>
    /// <param name="problems">Gets a sentence for each function that is left out.</param>
    /// <param name="fresh">Read the serial numbers again: a card may have been swapped.</param>
    /// <param name="last">All functions as they were read last; null: never.</param>
    /// <param name="locked">
    /// Functions that are being worked on: reading sriov_numvfs or driver_override would wait for the kernel to finish. They and
    /// their VFs are as they were read last.
    /// </param>
    public List<HostFunction> ReadAll(
        HostUse use,
        bool fresh,
        List<string> problems,
        IReadOnlyList<HostFunction>? last = null,
        IReadOnlySet<PciAddress>? locked = null
    )
    {
        foreach (PciAddress address in fresh ? _known.Keys : [])
            ReadAgain(address);
        var surroundings = new Surroundings(files);
        var functions = new List<HostFunction>();
        var untouched = new Untouched(files, last ?? [], locked);
        foreach (PciAddress address in AddressesIn(SysfsPaths.Devices))
        {
            try
            {
                if (!untouched.Passes(address) && Read(address, use, surroundings, locked?.Contains(address) == true) is { } function)
                    functions.Add(function);
            }
            catch (HostIoException e)
            {
                problems.Add($"{address} was left out: {e.Message}");
            }
        }

        // A VF that goes has no link to its PF for a moment, and is read for itself: as it was counts for more.
        List<HostFunction> asTheyWere = [.. untouched.Functions];
        HashSet<PciAddress> those = [.. asTheyWere.Select(f => f.Address)];
        functions = [.. functions.Where(f => !those.Contains(f.Address)), .. asTheyWere];
        foreach (PciAddress gone in _known.Keys.Concat(_before.Keys).Except(functions.Select(f => f.Address)))
            Forget(gone);
        return Complete(functions);
    }

    /// <summary>
    /// As <see cref="ReadAll"/>, reading only what is in the scope, or wasn't there before; the rest is as it was read last.
    /// </summary>
    /// <param name="last">All functions as they were read last.</param>
    /// <param name="scope">What to read again; gets what is new.</param>
    /// <param name="use">How the host uses its devices now.</param>
    /// <param name="problems">Gets a sentence for each function that is left out.</param>
    /// <param name="locked">See <see cref="ReadAll"/>.</param>
    public List<HostFunction> ReadAgain(
        IReadOnlyList<HostFunction> last,
        ScanScope scope,
        HostUse use,
        List<string> problems,
        IReadOnlySet<PciAddress>? locked = null
    )
    {
        foreach (PciAddress address in scope.Replaced)
            Forget(address);
        List<PciAddress> present = AddressesIn(SysfsPaths.Devices);
        HashSet<PciAddress> earlier = [.. last.Select(f => f.Address)];
        var untouched = new Untouched(files, last, locked);
        scope.Touched.UnionWith(present.Where(a => !earlier.Contains(a)));
        scope.Touched.RemoveWhere(untouched.Passes);
        var surroundings = new Surroundings(files);
        var read = new Dictionary<PciAddress, HostFunction>();
        void ReadThese(IEnumerable<PciAddress> addresses)
        {
            foreach (PciAddress address in addresses)
            {
                try
                {
                    if (Read(address, use, surroundings, locked?.Contains(address) == true) is { } function)
                        read[address] = function;
                }
                catch (HostIoException e)
                {
                    problems.Add($"{address} was left out: {e.Message}");
                }
            }
        }

        HashSet<PciAddress> there = [.. present];
        ReadThese(present.Where(scope.Touched.Contains));

        // VFs that came or went are their PF's number of VFs.
        List<PciAddress> parents =
        [
            .. read
                .Values.Concat(last.Where(f => !there.Contains(f.Address)))
                .Select(f => f.Function.ParentAddress)
                .OfType<PciAddress>()
                .Distinct()
                .Where(pf => there.Contains(pf) && !untouched.Passes(pf) && scope.Touched.Add(pf)),
        ];
        ReadThese(parents);
        there.UnionWith(untouched.Functions.Select(f => f.Address));
        foreach (PciAddress gone in earlier.Where(a => !there.Contains(a)))
            Forget(gone);
        return
        [
            .. last.Where(f => there.Contains(f.Address) && !scope.Touched.Contains(f.Address))
                .Select(f => WithInterfaces(f, use))
                .Concat(Complete([.. read.Values]))
                .OrderBy(f => f.Address),
        ];
    }

    private static HostFunction WithInterfaces(HostFunction f, HostUse use)
    {
        string? own = f.Function.ClassCode >> 16 == NetworkClass ? use.InterfaceOf(f.Address) : null;
        string? parents = f.Function.ParentAddress is { } pf ? use.InterfaceOf(pf) : null;
        return own == f.Function.NetDevice && parents == f.Function.ParentNetDevice
            ? f
            : f with
            {
                Function = f.Function with { NetDevice = own, ParentNetDevice = parents },
            };
    }

    /// <summary>These functions as they are now, serial numbers read anew; those that aren't there are left out.</summary>
    public List<HostFunction> ReadNow(IEnumerable<PciAddress> addresses, HostUse use)
    {
        var surroundings = new Surroundings(files);
        var functions = new List<HostFunction>();
        foreach (PciAddress address in addresses)
        {
            ReadAgain(address);
            if (Read(address, use, surroundings) is { } function)
                functions.Add(function);
        }

        return functions;
    }

    /// <summary>All functions of an IOMMU group, bridges too.</summary>
    public List<PciAddress> GroupMembers(int group) => AddressesIn($"{SysfsPaths.IommuGroups}/{group}/devices");

    private List<PciAddress> AddressesIn(string folder)
    {
        var addresses = new List<PciAddress>();
        foreach (string name in files.List(folder))
        {
            if (PciAddress.TryParse(name, out PciAddress address))
                addresses.Add(address);
        }

        // A folder that changes while it is listed may name an entry twice.
        return [.. addresses.Distinct()];
    }

    /// <summary>The VFs that a PF has now, in their order.</summary>
    public List<PciAddress> VfsOf(PciAddress pf) => [.. NumberedVfsOf(files, pf).OrderBy(v => v.Key).Select(v => v.Value)];

    /// <summary>A PF's VFs by their number on it: virtfnN.</summary>
    public static Dictionary<int, PciAddress> NumberedVfsOf(IHostFileSystem files, PciAddress pf)
    {
        var vfs = new Dictionary<int, PciAddress>();
        foreach (string name in files.List(SysfsPaths.Device(pf)))
        {
            if (
                name.StartsWith("virtfn", StringComparison.Ordinal)
                && Number(name["virtfn".Length..]) is { } index
                && PciAddress.TryParse(SysfsPaths.LastName(files.ReadLink($"{SysfsPaths.Device(pf)}/{name}")), out PciAddress vf)
            )
            {
                vfs[index] = vf;
            }
        }

        return vfs;
    }

    /// <summary>A VF's number on its PF; null when it is none of its VFs now.</summary>
    public static int? VfIndexOf(IHostFileSystem files, PciAddress pf, PciAddress vf)
    {
        // Where SR-IOV puts a VF: the PF's number on its bus, and the offset, and so many times the stride (PCIe 9.3.3.9, 9.3.3.10).
        string folder = SysfsPaths.Device(pf);
        static int Routing(PciAddress a) => (a.Bus << 8) | (a.Slot << 3) | a.Function;
        if (
            Number(files.ReadText($"{folder}/sriov_offset")) is { } offset
            && Number(files.ReadText($"{folder}/sriov_stride")) is { } stride and > 0
            && Routing(vf) - Routing(pf) - offset is >= 0 and var distance
            && SysfsPaths.LastName(files.ReadLink($"{folder}/virtfn{distance / stride}")) == vf.ToString()
        )
        {
            return distance / stride;
        }

        return NumberedVfsOf(files, pf).Where(v => v.Value == vf).Select(v => (int?)v.Key).FirstOrDefault();
    }

    /// <summary>A VF's PF; null when it is no VF.</summary>
    public static PciAddress? ParentOf(IHostFileSystem files, PciAddress address) =>
        PciAddress.TryParse(SysfsPaths.LastName(files.ReadLink($"{SysfsPaths.Device(address)}/physfn")), out PciAddress pf) ? pf : null;

    /// <summary>A function's IOMMU group; null when none.</summary>
    public static int? GroupOf(IHostFileSystem files, PciAddress address) =>
        Number(SysfsPaths.LastName(files.ReadLink($"{SysfsPaths.Device(address)}/iommu_group")));

    /// <summary>A function's driver; null when none.</summary>
    public static string? DriverOf(IHostFileSystem files, PciAddress address) =>
        SysfsPaths.LastName(files.ReadLink($"{SysfsPaths.Device(address)}/driver"));

    /// <summary>A function's driver_override; null when none (the kernel says "(null)").</summary>
    public static string? OverrideOf(IHostFileSystem files, PciAddress address) =>
        files.ReadText($"{SysfsPaths.Device(address)}/driver_override") is { Length: > 0 } text && text != "(null)" ? text : null;

    /// <summary>A function's ids; null when it isn't there.</summary>
    public static (PciId Vendor, PciId Product)? IdsOf(IHostFileSystem files, PciAddress address) =>
        Id(files.ReadText($"{SysfsPaths.Device(address)}/vendor")) is { } vendor
        && Id(files.ReadText($"{SysfsPaths.Device(address)}/device")) is { } product
            ? (vendor, product)
            : null;

    /// <summary>What the function at an address is known by, read anew; null when none is there.</summary>
    public KnownDevice? IdentityOf(PciAddress address)
    {
        string folder = SysfsPaths.Device(address);
        ReadAgain(address);
        if (files.ReadLink(folder) is not { } link || IdsOf(files, address) is not { } ids)
            return null;
        PciAddress? parent = ParentOf(files, address);
        if (Facts(address, folder, ids.Vendor, ids.Product, parent is not null) is not { } card)
            return null;
        Evidence evidence = EvidenceOf(address, parent, link, card, new Surroundings(files));
        return new KnownDevice(ids.Vendor, ids.Product, StableId(address, parent, evidence), evidence);
    }

    // Of a locked one, what the kernel shows only to who can lock the device is left out.
    private HostFunction? Read(PciAddress address, HostUse use, Surroundings around, bool locked = false)
    {
        string folder = SysfsPaths.Device(address);
        string? link = files.ReadLink(folder);
        PciId? vendor = Id(files.ReadText($"{folder}/vendor"));
        PciId? product = Id(files.ReadText($"{folder}/device"));
        if (link is null || vendor is null || product is null)
            return null;
        PciAddress? parent = ParentOf(files, address);
        if (Facts(address, folder, vendor.Value, product.Value, parent is not null) is not { } card)
            return null;
        uint classCode = card.ClassCode;
        bool isBridge = card.IsBridge;
        int totalVfs = parent is null && !isBridge ? Number(files.ReadText($"{folder}/sriov_totalvfs")) ?? 0 : 0;
        int? numa = Number(Optional($"{folder}/numa_node")) is { } node and >= 0 ? node : null;
        string? driver = DriverOf(files, address);
        int? group = GroupOf(files, address);
        bool onVfio = VfioDrivers.IsVfio(driver);
        Evidence evidence = EvidenceOf(address, parent, link, card, around);
        string? groupNode = group is { } g && onVfio && files.Exists(SysfsPaths.GroupNode(g)) ? SysfsPaths.GroupNode(g) : null;
        return new HostFunction
        {
            Function = new PciFunction
            {
                Address = address,
                VendorId = vendor.Value,
                ProductId = product.Value,
                SubsystemVendorId = card.SubsystemVendor,
                SubsystemProductId = card.SubsystemProduct,
                ClassCode = classCode,
                Type = parent is not null
                    ? around.HasVdpa(address)
                        ? DeviceType.Vdpa
                        : DeviceType.Vf
                    : totalVfs > 0
                        ? DeviceType.Pf
                        : DeviceType.Pci,
                ParentAddress = parent,
                NumaNode = numa,
                Socket = numa is { } n ? around.SocketOf(n) : null,
                IommuGroup = group,
                SriovTotalVfs = totalVfs,
                VfProductId = totalVfs > 0 ? Id(Optional($"{folder}/sriov_vf_device")) : null,
                NetDevice = classCode >> 16 == NetworkClass ? use.InterfaceOf(address) : null,
                ParentNetDevice = parent is { } p ? use.InterfaceOf(p) : null,
                CardSerial = card.Vpd.Number,
                StableId = StableId(address, parent, evidence),
                IsBridge = isBridge,
            },
            Evidence = evidence,
            Driver = driver,
            PcieRoot = SysfsPaths.RootBus(link),
            DriverOverride = locked ? null : OverrideOf(files, address),
            NumVfs = totalVfs > 0 && !locked ? Number(files.ReadText($"{folder}/sriov_numvfs")) : null,
            VfsAutoprobe =
                totalVfs > 0
                    ? Optional($"{folder}/sriov_drivers_autoprobe") switch
                    {
                        "1" => true,
                        "0" => false,
                        _ => null,
                    }
                    : null,
            ResetMethods = isBridge ? [] : Optional($"{folder}/reset_method")?.Split(' ', StringSplitOptions.RemoveEmptyEntries) ?? [],
            VfioGroupNode = groupNode,
            BootVga = classCode >> 16 == DisplayClass && files.ReadText($"{folder}/boot_vga") == "1",
            IsOnRootBus = parent is null && SysfsPaths.FunctionsOn(link).Count == 1 && !GoesWithAnEndpoint(address, classCode),
            HasMemoryBar = classCode >> 16 == MemoryClass && HasMemory(Optional($"{folder}/resource")),
            VfioDeviceNode = onVfio ? VfioDevice(files, address) : null,
        };
    }

    /// <summary>"/dev/vfio/devices/vfio0": sysfs can name a device whose node isn't there (kernels without cdev).</summary>
    internal static string? VfioDevice(IHostFileSystem files, PciAddress address)
    {
        foreach (string name in files.List($"{SysfsPaths.Device(address)}/vfio-dev"))
        {
            if (files.Exists($"/dev/vfio/devices/{name}"))
                return $"/dev/vfio/devices/{name}";
        }

        return null;
    }

    /// <summary>Names from pci.ids.</summary>
    private List<HostFunction> Complete(List<HostFunction> functions)
    {
        IReadOnlyDictionary<(PciId, PciId), string> found = _names.Find(functions.Select(f => (f.Function.VendorId, f.Function.ProductId)));
        return
        [
            .. functions
                .Select(f => f with { Name = found.GetValueOrDefault((f.Function.VendorId, f.Function.ProductId)) })
                .OrderBy(f => f.Address),
        ];
    }

    /// <summary>Null when the function has just gone.</summary>
    private FixedFacts? Facts(PciAddress address, string folder, PciId vendor, PciId product, bool isVf)
    {
        if (_known.TryGetValue(address, out FixedFacts? facts) && facts.Vendor == vendor && facts.Product == product && facts.IsVf == isVf)
            return facts;
        if (
            files.ReadText($"{folder}/class") is not { } classText
            || !uint.TryParse(Digits(classText), NumberStyles.AllowHexSpecifier, null, out uint classCode)
        )
        {
            return null;
        }

        bool isBridge = !isVf && IsBridge(folder, classCode);
        bool hasSerial = !isVf && !isBridge;
        ReadSerial vpd =
            hasSerial && classCode >> 16 is (NetworkClass or AcceleratorClass)
                ? SerialNumber.ReadVpd(() => files.ReadBytes($"{folder}/vpd", VpdBytes))
                : default;
        ReadSerial dsn = hasSerial ? SerialNumber.ReadDsn(() => files.ReadBytes($"{folder}/config", ConfigSpace)) : default;
        if (_before.TryRemove(address, out FixedFacts? old) && old.Vendor == vendor && old.Product == product && old.IsVf == isVf)
            (vpd, dsn) = (StillThe(old.Vpd, vpd, old.Dsn, dsn), StillThe(old.Dsn, dsn, old.Vpd, vpd));
        return _known[address] = new FixedFacts(
            vendor,
            product,
            isVf,
            isBridge,
            classCode,
            Id(Optional($"{folder}/subsystem_vendor")),
            Id(Optional($"{folder}/subsystem_device")),
            vpd,
            dsn
        );
    }

    /// <summary>A number that can't be read is what it was, unless the card's other number says that it is another card.</summary>
    private static ReadSerial StillThe(ReadSerial was, ReadSerial now, ReadSerial otherWas, ReadSerial otherNow) =>
        now.Unreadable && (otherNow.Unreadable || otherNow.Number == otherWas.Number) ? was : now;

    private void ReadAgain(PciAddress address)
    {
        if (_known.TryRemove(address, out FixedFacts? facts))
            _before[address] = facts;
    }

    private void Forget(PciAddress address)
    {
        _known.TryRemove(address, out _);
        _before.TryRemove(address, out _);
    }

    private static Evidence EvidenceOf(PciAddress address, PciAddress? parent, string link, FixedFacts card, Surroundings around) =>
        new(
            card.Vpd,
            card.Dsn,
            parent is null && around.SlotOf(address) is { } slot ? $"slot:{slot}.{address.Function}" : PathOf(address, parent, link)
        );

    /// <summary>
    /// What a device is known by when addresses move: its serial number (functions of a card share it), else its physical
    /// slot, else where it sits below the host bridge. A VF is known by its PF's path and its own bus, device and function.
    /// </summary>
    private static string StableId(PciAddress address, PciAddress? parent, Evidence evidence) =>
        parent is not null ? evidence.Place
        : evidence.Vpd.Number is { } vpd ? $"{DeviceIdentity.VpdPrefix}{vpd}.{address.Function}"
        : evidence.Dsn.Number is { } dsn ? $"{DeviceIdentity.DsnPrefix}{dsn}.{address.Function}"
        : evidence.Place;

    /// <summary>
    /// "path:pci0000:20/03.0/00.0". The VFs of a PF may be on the buses after its own, and sysfs shows all of them beside it.
    /// </summary>
    private static string PathOf(PciAddress address, PciAddress? parent, string link)
    {
        int root = link.IndexOf("/pci", StringComparison.Ordinal);
        string start = root < 0 ? "" : link[(root + 1)..].Split('/')[0];
        int buses = parent is { } pf ? address.Bus - pf.Bus : 0;
        string[] steps = [.. SysfsPaths.FunctionsOn(link).Select(f => $"{f.Slot:x2}.{f.Function}")];
        if (buses != 0 && steps.Length > 0)
            steps[^1] = $"+{buses}:{steps[^1]}";
        return $"path:{start}/{string.Join('/', steps)}";
    }

    /// <summary>
    /// VFIO takes what has an endpoint's header, whatever its class says (vfio_pci_core_register_device): an NVSwitch or a non-transparent
    /// bridge is a device. Host bridges, ISA bridges and their like have that header too, and are the host. A port of PCI's own is read no
    /// header of: it would be woken for it, and the kernel has made sure that class and header agree (pci_setup_device).
    /// </summary>
    private bool IsBridge(string folder, uint classCode)
    {
        const uint lastOfTheHosts = 0x07;
        return classCode >> 16 == BridgeClass
            && (
                ((classCode >> 8) & 0xff) <= lastOfTheHosts
                || OptionalBytes($"{folder}/config", HeaderType + 1) is not [.., var header]
                || (header & 0x7f) != 0
            );
    }

    /// <summary>A further function of a card, by the class of its first: asked of the few kinds only of which chipsets are made.</summary>
    private bool GoesWithAnEndpoint(PciAddress address, uint classCode)
    {
        if (address.Function == 0 || !Guards.IsOfAChipset(classCode))
            return false;
        string text = address.ToString();
        return Optional($"{SysfsPaths.Devices}/{text[..(text.LastIndexOf('.') + 1)]}0/class") is { } first
            && uint.TryParse(Digits(first), NumberStyles.AllowHexSpecifier, null, out uint code)
            && !Guards.IsOfAChipset(code);
    }

    /// <summary>
    /// "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200": start, end and flags of the six BARs first; 0x200 is memory
    /// (linux/ioport.h).
    /// </summary>
    private static bool HasMemory(string? resources) =>
        (resources ?? "")
            .Split('\n')
            .Take(6)
            .Select(line => line.Trim().Split(' '))
            .Any(bar =>
                bar is [_, _, ['0', 'x', .. var flags]]
                && ulong.TryParse(flags, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong bits)
                && (bits & 0x200) != 0
            );

    /// <summary>An attribute that nothing is decided or restored by: an error is as good as its absence.</summary>
    private string? Optional(string path)
    {
        try
        {
            return files.ReadText(path);
        }
        catch (HostIoException)
        {
            return null;
        }
    }

    private byte[]? OptionalBytes(string path, int max)
    {
        try
        {
            return files.ReadBytes(path, max);
        }
        catch (HostIoException)
        {
            return null;
        }
    }

    private static PciId? Id(string? text) => text is not null && PciId.TryParse(text.Trim(), out PciId id) ? id : null;

    internal static int? Number(string? text) =>
        int.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out int n)
            ? n
            : null;

    private static ReadOnlySpan<char> Digits(string hex) => hex.AsSpan().Trim().TrimStart("0x");

    /// <summary>
    /// Functions that are not read while the kernel may keep them locked: as they were read last, VFs of a locked PF all together.
    /// </summary>
    private sealed class Untouched(IHostFileSystem files, IReadOnlyList<HostFunction> last, IReadOnlySet<PciAddress>? locked)
    {
        private readonly bool _any = locked is { Count: > 0 };
        private readonly HashSet<PciAddress> _passed = [];
        private readonly Dictionary<PciAddress, PciAddress?> _parents = locked is { Count: > 0 }
            ? last.DistinctBy(f => f.Address).ToDictionary(f => f.Address, f => f.Function.ParentAddress)
            : [];

        /// <summary>Whether a function that is there is not to be read.</summary>
        public bool Passes(PciAddress address)
        {
            if (!_any)
                return false;
            // A VF that goes has no link to its PF any more for a moment.
            bool passes =
                (ParentOf(files, address) ?? _parents.GetValueOrDefault(address)) is { } pf && locked!.Contains(pf)
                || (locked!.Contains(address) && _parents.ContainsKey(address));
            if (passes)
                _passed.Add(address);
            return passes;
        }

        public IEnumerable<HostFunction> Functions =>
            !_any ? [] : last.Where(f => _passed.Contains(f.Address) || (f.Function.ParentAddress is { } pf && locked!.Contains(pf)));
    }

    /// <summary>What stays the same as long as the same device is at the address.</summary>
    private sealed record FixedFacts(
        PciId Vendor,
        PciId Product,
        bool IsVf,
        bool IsBridge,
        uint ClassCode,
        PciId? SubsystemVendor,
        PciId? SubsystemProduct,
        ReadSerial Vpd,
        ReadSerial Dsn
    );

    /// <summary>What is read once for a scan and only when some function needs it.</summary>
    private sealed class Surroundings(IHostFileSystem files)
    {
        private readonly Dictionary<int, int?> _sockets = [];
        private HashSet<PciAddress>? _vdpa;
        private Dictionary<string, string>? _slots;

        public int? SocketOf(int node)
        {
            if (_sockets.TryGetValue(node, out int? socket))
                return socket;
            socket = HostFacts.SocketOf(files, node);
            _sockets[node] = socket;
            return socket;
        }

        public bool HasVdpa(PciAddress vf)
        {
            _vdpa ??=
            [
                .. files
                    .List("/sys/bus/vdpa/devices")
                    .Select(name => files.ReadLink($"/sys/bus/vdpa/devices/{name}"))
                    .OfType<string>()
                    .SelectMany(path => SysfsPaths.FunctionsOn(path).TakeLast(1)),
            ];
            return _vdpa.Contains(vf);
        }

        /// <summary>Physical slots: /sys/bus/pci/slots/NAME/address is an address without its function.</summary>
        public string? SlotOf(PciAddress address)
        {
            if (_slots is null)
            {
                _slots = [];
                foreach (string name in files.List("/sys/bus/pci/slots"))
                {
                    if (files.ReadText($"/sys/bus/pci/slots/{name}/address") is { } place)
                        _slots.TryAdd(place, name);
                }
            }

            string text = address.ToString();
            return _slots.GetValueOrDefault(text[..text.LastIndexOf('.')]);
        }
    }
}
