using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What the kernel itself serves to others: nvmet, LIO, RNBD, USB gadgets. They open block devices, some without claiming them, and take
/// ports of HBAs; only their own folders say so.
/// </summary>
internal sealed class KernelExports
{
    private const string Config = "/sys/kernel/config";
    private readonly IHostFileSystem _files;
    private readonly HostMounts _mounts;
    private readonly FibreChannel _ports;
    private readonly Dictionary<DeviceNumber, string> _devices = [];
    private readonly Dictionary<PciAddress, string> _functions = [];

    private KernelExports(IHostFileSystem files, HostMounts mounts, FibreChannel ports) =>
        (_files, _mounts, _ports) = (files, mounts, ports);

    /// <summary>Block devices, and how they are exported: "exported over NVMe as …: disable it there".</summary>
    public IReadOnlyDictionary<DeviceNumber, string> Devices => _devices;

    /// <summary>Functions that serve as a target's port, or are passed through to others as they are.</summary>
    public IReadOnlyDictionary<PciAddress, string> Functions => _functions;

    public static KernelExports Read(IHostFileSystem files, HostMounts mounts, FibreChannel ports)
    {
        var exports = new KernelExports(files, mounts, ports);
        exports.ReadNvmeTargets();
        exports.ReadBackstores();
        exports.ReadTargetPorts();
        exports.ReadRnbd();
        exports.ReadGadgets();
        return exports;
    }

    /// <summary>Targets open what they export without claiming it (drivers/nvme/target/io-cmd-bdev.c, passthru.c).</summary>
    private void ReadNvmeTargets()
    {
        const string subsystems = $"{Config}/nvmet/subsystems";
        foreach (string subsystem in _files.List(subsystems))
        {
            foreach (string id in _files.List($"{subsystems}/{subsystem}/namespaces"))
            {
                string folder = $"{subsystems}/{subsystem}/namespaces/{id}";
                if (IsOn($"{folder}/enable"))
                {
                    Export(
                        Text($"{folder}/device_path"),
                        $"exported over NVMe as namespace {id} of {subsystem}: disable it there (echo 0 > {folder}/enable)"
                    );
                }
            }

            string passed = $"{subsystems}/{subsystem}/passthru";
            if (IsOn($"{passed}/enable") && SysfsPaths.LastName(Text($"{passed}/device_path")) is { Length: > 0 } controller)
            {
                Serve(
                    SysfsPaths.FunctionsOn(_files.ReadLink($"/sys/class/nvme/{controller}") ?? ""),
                    $"is passed through over NVMe as {subsystem}: disable it there (echo 0 > {passed}/enable)"
                );
            }
        }

        foreach (string port in _files.List($"{Config}/nvmet/ports"))
        {
            string folder = $"{Config}/nvmet/ports/{port}";
            if (Text($"{folder}/addr_trtype") == "fc" && _files.List($"{folder}/subsystems").Count > 0)
            {
                Serve(
                    _ports.Of(Text($"{folder}/addr_traddr") ?? ""),
                    $"is port {port} of the host's NVMe target: take its subsystems away (rm {folder}/subsystems/*)"
                );
            }
        }
    }

    /// <summary>
    /// LIO's backstores: fileio opens a device as it opens a file, without claiming it (drivers/target/target_core_file.c).
    /// </summary>
    private void ReadBackstores()
    {
        const string core = $"{Config}/target/core";
        foreach (string plugin in _files.List(core).Where(name => name != "alua"))
        {
            foreach (string name in _files.List($"{core}/{plugin}"))
            {
                string folder = $"{core}/{plugin}/{name}";
                if (Text($"{folder}/enable") is null or "0")
                    continue;
                string says = $"exported by LIO as backstore {plugin}/{name}: delete it there (targetcli)";
                string info = _files.ReadText($"{folder}/info") ?? "";
                foreach (
                    string? path in new[]
                    {
                        Text($"{folder}/udev_path"),
                        After(info, "File: "),
                        After(info, "iBlock device: ") is { } block ? $"/dev/{block}" : null,
                    }
                )
                {
                    Export(path, says);
                }

                if (
                    After(info, "Host ID: ") is { } host
                    && After(info, "Channel ID: ") is { } channel
                    && After(info, "Target ID: ") is { } target
                    && After(info, "LUN: ") is { } lun
                )
                {
                    Serve(
                        SysfsPaths.FunctionsOn(_files.ReadLink($"/sys/class/scsi_device/{host}:{channel}:{target}:{lun}") ?? ""),
                        $"carries the SCSI device {host}:{channel}:{target}:{lun}, {says}"
                    );
                }
            }
        }
    }

    /// <summary>HBAs whose ports LIO serves: Fibre Channel by their port names, InfiniBand (SRP) by their port's GID or GUID.</summary>
    private void ReadTargetPorts()
    {
        foreach (string fabric in _files.List($"{Config}/target").Where(name => name != "core"))
        {
            foreach (string port in _files.List($"{Config}/target/{fabric}"))
            {
                string folder = $"{Config}/target/{fabric}/{port}";
                if (
                    !_files
                        .List(folder)
                        .Any(tpg => tpg.StartsWith("tpgt_", StringComparison.Ordinal) && Text($"{folder}/{tpg}/enable") != "0")
                )
                {
                    continue;
                }

                IReadOnlyList<PciAddress> own = _ports.Of(port);
                Serve(
                    own.Count > 0 ? own : InfiniBandPort(port),
                    $"serves as the SCSI target {port} ({fabric}): disable it there (targetcli)"
                );
            }
        }
    }

    private List<PciAddress> InfiniBandPort(string name)
    {
        const string adapters = "/sys/class/infiniband";
        static string Digits(string text) =>
            new([.. text.ToLowerInvariant().Replace("0x", "", StringComparison.Ordinal).Where(char.IsAsciiHexDigit)]);
        string wanted = Digits(name);
        return wanted.Length is not (16 or 32)
            ? []
            :
            [
                .. _files
                    .List(adapters)
                    .Where(adapter =>
                        _files
                            .List($"{adapters}/{adapter}/ports")
                            .Select(port => Text($"{adapters}/{adapter}/ports/{port}/gids/0"))
                            .Append(Text($"{adapters}/{adapter}/node_guid"))
                            .Any(id => id is not null && Digits(id).EndsWith(wanted[^16..], StringComparison.Ordinal))
                    )
                    .SelectMany(adapter => SysfsPaths.FunctionsOn(_files.ReadLink($"{adapters}/{adapter}") ?? "")),
            ];
    }

    /// <summary>RNBD's server doesn't claim its devices either (drivers/block/rnbd/rnbd-srv.c).</summary>
    private void ReadRnbd()
    {
        const string served = "/sys/class/rnbd-server/ctl/devices";
        foreach (string name in _files.List(served))
        {
            if (SysfsPaths.LastName(_files.ReadLink($"{served}/{name}/block_dev")) is { } block)
                Export(Disk.NodeOf(block), $"exported over RDMA by RNBD as {name}: close its sessions");
        }
    }

    private void ReadGadgets()
    {
        const string gadgets = $"{Config}/usb_gadget";
        foreach (string gadget in _files.List(gadgets))
        {
            foreach (
                string function in _files
                    .List($"{gadgets}/{gadget}/functions")
                    .Where(name => name.StartsWith("mass_storage.", StringComparison.Ordinal))
            )
            {
                foreach (
                    string lun in _files
                        .List($"{gadgets}/{gadget}/functions/{function}")
                        .Where(name => name.StartsWith("lun.", StringComparison.Ordinal))
                )
                {
                    Export(
                        Text($"{gadgets}/{gadget}/functions/{function}/{lun}/file"),
                        $"exported over USB by the gadget {gadget}: take it from there (echo > …/{function}/{lun}/file)"
                    );
                }
            }
        }
    }

    private void Export(string? path, string how)
    {
        if (path is { Length: > 0 } && _mounts.NodeAt(path) is { } number)
            _devices.TryAdd(number, how);
    }

    private void Serve(IEnumerable<PciAddress> addresses, string how)
    {
        foreach (PciAddress address in addresses)
            _functions.TryAdd(address, how);
    }

    private bool IsOn(string path) => Text(path) == "1";

    private string? Text(string path) => _files.ReadText(path)?.Trim();

    /// <summary>The word that follows a label.</summary>
    private static string? After(string text, string label) =>
        text.IndexOf(label, StringComparison.Ordinal) is >= 0 and var at
            ? text[(at + label.Length)..].TrimStart().Split((char[])[' ', '\t', '\n'], 2)[0] is { Length: > 0 } word
                ? word
                : null
            : null;
}
