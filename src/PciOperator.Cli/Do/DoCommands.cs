using System.CommandLine;
using System.Text;
using PciOperator.Api;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Output;
using PciOperator.Cli.See;
using PciOperator.Core;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Do;

/// <summary>The commands that do something, or write what others do something with.</summary>
internal static class DoCommands
{
    /// <summary>The commands.</summary>
    public static IEnumerable<Command> All(Shell shell) => [Free(shell), Xml(shell), Vm(shell), Bundle(shell)];

    private static Command Free(Shell shell)
    {
        var address = new Argument<string>("device") { Description = "The device: 0000:21:00.0, or 21:00.0." };
        Option<string?> node = SeeCommands.NodeOption();
        var delete = new Option<bool>("--delete-claim") { Description = "Delete the claim that has it, after asking." };
        var yes = new Option<bool>("--yes", "-y") { Description = "Don't ask." };
        var command = new Command(
            "free",
            "What keeps a device, and how it is given back; with --delete-claim, delete the claim that has it."
        )
        {
            address,
            node,
            delete,
            yes,
        };
        command.SetAction(
            shell.Run(async session =>
            {
                DeviceView device = await OneDeviceAsync(session, SeeCommands.AddressOf(session.Value(address)!), session.Value(node));
                string where = $"{device.Address} on {device.Node}";
                if (device.Claim is not { } claim)
                    return SayWhyNobodyHasIt(session.Printer, device, where);
                string[] name = claim.Split('/');
                session.Printer.Line($"{where} ({device.Name}) is held by claim {claim}.");
                if (!session.Value(delete))
                {
                    session.Printer.Line($"It is given back when the claim is deleted: kubectl delete ptc {name[1]} -n {name[0]}");
                    return ExitCodes.No;
                }

                return await DeleteAsync(session, device, name[0], name[1], session.Value(yes));
            })
        );
        return command;
    }

    private static async Task<DeviceView> OneDeviceAsync(Session session, string address, string? node)
    {
        DeviceView[] found = [.. (await SeeCommands.DevicesAsync(session, node)).Where(d => d.Address == address)];
        return found switch
        {
            [] => throw new CliException(ExitCodes.NotFound, $"No PciNode has a device {address} (kubectl pci devices --all)."),
            [var one] => one,
            _ => throw new CliException(
                ExitCodes.Usage,
                $"Several nodes have a device {address}: choose one with --node ({string.Join(", ", found.Select(d => d.Node))})."
            ),
        };
    }

    private static int SayWhyNobodyHasIt(Printer printer, DeviceView device, string where)
    {
        if (device.IsFree)
        {
            printer.Line($"{where} ({device.Name}) is free already.");
            return ExitCodes.Ok;
        }

        printer.Line(
            device.State switch
            {
                "bridge" => $"{where} is a bridge: bridges are never given away.",
                "unmatched" => $"{where} ({device.Name}) is held by no claim, and no PciDeviceSpec names it.",
                _ => $"{where} ({device.Name}) is held by no claim, and not offered: {device.Reason ?? device.State}",
            }
        );
        if (device.WithheldBy == WithheldWords.UsedOnce)
        {
            printer.Line(
                $"It was for one use. When you have looked at it: kubectl annotate pcinode {device.Node} {PciOperatorApi.Group}/free={device.Address}"
            );
        }

        return ExitCodes.No;
    }

    private static async Task<int> DeleteAsync(Session session, DeviceView device, string ns, string name, bool yes)
    {
        PassthroughClaim? claim = await session.Client.GetAsync<PassthroughClaim>(name, ns, session.Ct);
        if (claim is null)
        {
            throw new CliException(
                ExitCodes.No,
                $"The claim {ns}/{name} is deleted already: node {device.Node} is giving its devices back."
            );
        }

        // A claim of that name may be another by now: it goes only if it is the one that has the device.
        string? uid = device.ClaimUid;
        if (claim.Metadata.Uid != uid)
        {
            throw new CliException(
                ExitCodes.No,
                $"There is another claim {ns}/{name} by now, which doesn't have the device: nothing was deleted."
            );
        }

        string[] devices = [.. (claim.Status?.Devices ?? []).Select(d => d.Address)];
        if (!yes)
        {
            if (!session.Io.IsInteractive)
                throw new CliException(ExitCodes.Usage, "Nobody is there to ask: say --yes to delete the claim.");
            await session.Io.Out.FlushAsync(session.Ct);
            await session.Io.Error.WriteAsync(
                Plain.Text($"Delete claim {ns}/{name}, and give back its {devices.Length} devices ({string.Join(", ", devices)})? [y/N] ")
            );
            await session.Io.Error.FlushAsync(session.Ct);
            string? answer = await session.Io.In.ReadLineAsync(session.Ct);
            if (answer?.Trim().ToLowerInvariant() is not ("y" or "yes"))
            {
                session.Printer.Line("Nothing was deleted.");
                return ExitCodes.No;
            }
        }

        try
        {
            await session.Client.DeleteAsync<PassthroughClaim>(name, ns, new DeleteOptions { Uid = uid }, session.Ct);
        }
        catch (ApiException changed) when (changed.IsConflict)
        {
            throw new CliException(ExitCodes.No, $"There is another claim {ns}/{name} by now: nothing was deleted.");
        }

        session.Printer.Line($"passthroughclaim.{PciOperatorApi.Group}/{name} deleted");
        session.Printer.Line(
            $"It goes when no pod uses it and its devices are on their own drivers again: kubectl wait --for=delete ptc/{name} -n {ns}"
        );
        return ExitCodes.Ok;
    }

    private static Command Xml(Shell shell)
    {
        var name = new Argument<string>("claim") { Description = "The claim." };
        var command = new Command("xml", "A claim's devices as <hostdev> elements of libvirt.") { name };
        command.SetAction(
            shell.Run(async session =>
            {
                PassthroughClaim claim = await session.RequireAsync<PassthroughClaim>(session.Value(name)!, session.Namespace);
                if (!claim.Status?.Conditions.IsTrue(Conditions.Prepared) ?? true)
                {
                    throw new CliException(
                        ExitCodes.No,
                        $"Claim {claim.Metadata.Name} has no devices that are bound yet: {ClaimView.Of(claim).Message ?? "its controller has not looked at it"} (kubectl pci explain {claim.Metadata.Name})"
                    );
                }

                session.Io.Out.Write(Hostdevs(claim));
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    /// <summary>Documentation: libvirt's domain XML, "Host device assignment". The node's agent binds and unbinds: managed is no.</summary>
    private static string Hostdevs(PassthroughClaim claim)
    {
        var xml = new StringBuilder();
        foreach (PciAddress address in (claim.Status?.Devices ?? []).Select(d => PciAddress.Parse(d.Address)).Order())
        {
            xml.Append(
                $"""
                <hostdev mode='subsystem' type='pci' managed='no'>
                  <driver name='vfio'/>
                  <source>
                    <address domain='0x{address.Domain:x4}' bus='0x{address.Bus:x2}' slot='0x{address.Slot:x2}' function='0x{address.Function:x}'/>
                  </source>
                </hostdev>

                """
            );
        }

        return xml.ToString();
    }

    private static Command Vm(Shell shell)
    {
        var name = new Argument<string>("claim") { Description = "The claim." };
        var vm = new Option<string?>("--name") { Description = "The VM's name; without it the claim's." };
        var memory = new Option<string>("--memory") { Description = "The guest's memory.", DefaultValueFactory = _ => "4Gi" };
        var image = new Option<string>("--image")
        {
            Description = "The image of its root disk.",
            DefaultValueFactory = _ => "quay.io/containerdisks/fedora:latest",
        };
        var command = new Command("vm", "A KubeVirt VM with a claim's devices, as YAML.") { name, vm, memory, image };
        command.SetAction(
            shell.Run(async session =>
            {
                PassthroughClaim claim = await session.RequireAsync<PassthroughClaim>(session.Value(name)!, session.Namespace);
                session.Printer.Write(
                    await VirtualMachineYaml.OfAsync(
                        session,
                        claim,
                        session.Value(vm) is { Length: > 0 } named ? named : claim.Metadata.Name,
                        session.Value(memory)!,
                        session.Value(image)!
                    )
                );
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    private static Command Bundle(Shell shell)
    {
        var file = new Option<string?>("--file", "-f") { Description = "The archive; without it pci-collect-TIME.tar.gz." };
        var command = new Command("collect", "Objects, events and facts of hosts for who helps you, without secrets, as a tar.gz.")
        {
            file,
        };
        command.SetAction(
            shell.Run(async session =>
            {
                string path = session.Value(file) is { Length: > 0 } given
                    ? given
                    : $"pci-collect-{session.Io.Time.GetUtcNow():yyyyMMdd-HHmmss}.tar.gz";
                int missing = await SupportBundle.WriteAsync(session, path);
                session.Printer.Line(path);
                if (missing > 0)
                    await session.WarnAsync($"{missing} kinds could not be read; missing.txt in the archive says which, and why");
                return ExitCodes.Ok;
            })
        );
        return command;
    }
}
