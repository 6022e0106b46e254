using System.CommandLine;
using System.Text.Json.Serialization;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Ask;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Output;
using PciOperator.Cli.See;
using PciOperator.Cli.Vms;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Diagnose;

/// <summary>The command that says what is wrong.</summary>
internal static class DiagnoseCommands
{
    /// <summary>The commands.</summary>
    public static IEnumerable<Command> All(Shell shell)
    {
        Option<string?> node = SeeCommands.NodeOption();
        var command = new Command("diagnose", "What keeps devices from guests, on hosts and in the cluster, each with its fix.") { node };
        command.SetAction(
            shell.Run(async session =>
            {
                IReadOnlyList<Finding> findings = await FindAsync(session, session.Value(node) is { Length: > 0 } only ? only : null);
                Write(session, findings);
                return findings.Count == 0 ? ExitCodes.Ok : ExitCodes.No;
            })
        );
        return [command];
    }

    private static async Task<IReadOnlyList<Finding>> FindAsync(Session session, string? only)
    {
        if (only is not null)
            await session.RequireAsync<PciNode>(only);
        ClusterSnapshot cluster = await ClusterSnapshot.LoadAsync(session);
        IReadOnlyList<DeviceView> devices = DeviceView.Of(cluster.PciNodes, new DeviceNames(session.Io, cluster.PciNodes));
        VmFacts vms = await VmFacts.LoadAsync(session, cluster.Claims);
        // What a VM's pod says is said of the VM.
        HashSet<(string, string)> launchers =
        [
            .. vms.Guests.SelectMany(g => g.Launchers).Select(p => (p.Metadata.NamespaceProperty, p.Metadata.Name)),
        ];
        IReadOnlyList<V1Pod> pods = await PodsAsync(session, only);
        return
        [
            .. Diagnosis.OfCluster(cluster, devices, only),
            .. only is null ? Diagnosis.OfNames(await session.ListAsync<PciDeviceSpec>(), cluster.Aliases) : [],
            .. Diagnosis.OfClaims(cluster.Claims, only),
            .. VmDiagnosis.Of(vms, only),
            .. Diagnosis.OfPods([.. pods.Where(p => !launchers.Contains((p.Metadata.NamespaceProperty, p.Metadata.Name)))], cluster.Claims),
        ];
    }

    private static async Task<IReadOnlyList<V1Pod>> PodsAsync(Session session, string? node)
    {
        try
        {
            var pending = new ListOptions { FieldSelector = "status.phase=Pending" };
            EntityList<V1Pod> pods = await session.Client.ListAsync<V1Pod>(null, pending, session.Ct);
            return [.. pods.Items.Where(p => node is null || p.Spec?.NodeName == node)];
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            await session.WarnAsync("you may not list pods: those that don't start are not looked at");
            return [];
        }
    }

    private static void Write(Session session, IReadOnlyList<Finding> findings)
    {
        if (session.Format is not OutputFormat.Table)
        {
            session.Printer.Write(
                new Sheet<Finding>(
                    findings,
                    [
                        new("WHERE", f => Cell.Of(f.Where)),
                        new("TYPE", f => Cell.Of(f.Type, Tone.Bad)),
                        new("PROBLEM", f => Cell.Of(f.Problem)),
                        new("FIX", f => Cell.Of(f.Fix)),
                    ],
                    f => $"{f.Where}: {f.Type}",
                    FindingJsonContext.Default.ListingFinding
                )
                {
                    Nothing = "No problems found.",
                }
            );
            return;
        }

        foreach (Finding finding in findings)
        {
            session.Printer.Line(($"{finding.Where}  ", Tone.Heading), (finding.Type, Tone.Bad));
            session.Printer.Line(("  problem  ", Tone.Faint), (finding.Problem, Tone.Plain));
            session.Printer.Line(("  fix      ", Tone.Faint), (finding.Fix, Tone.Plain));
        }

        session.Printer.Line(
            findings.Count == 0 ? "No problems found." : $"{Counted.Of(findings.Count, "problem")} found.",
            findings.Count == 0 ? Tone.Good : Tone.Bad
        );
    }
}

/// <summary>Source-generated JSON of what is wrong.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(Listing<Finding>))]
internal sealed partial class FindingJsonContext : JsonSerializerContext;
