using System.CommandLine;
using System.Text.Json;
using PciOperator.Api;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Output;
using PciOperator.Cli.See;
using PciOperator.Import;

namespace PciOperator.Cli.Ask;

/// <summary>Proposes what could be offered.</summary>
internal static class DiscoverCommand
{
    /// <summary>The command.</summary>
    public static Command Of(Shell shell)
    {
        Option<string?> node = SeeCommands.NodeOption();
        var command = new Command(
            "discover",
            "Propose PciDeviceSpecs and PciAliases, as YAML, for what nodes have and no spec names. What a guard refuses is a comment that says why. Nothing is changed."
        )
        {
            node,
        };
        command.SetAction(
            shell.Run(async session =>
            {
                IReadOnlyList<PciNode> nodes = await session.PciNodesAsync(session.Value(node));
                var names = new DeviceNames(session.Io, nodes);
                ImportResult proposal = Discovery.Propose(
                    new DiscoverySource
                    {
                        Nodes = nodes,
                        SpecNames = [.. (await session.ListAsync<PciDeviceSpec>(null)).Select(s => s.Metadata.Name)],
                        Aliases = await session.ListAsync<PciAlias>(null),
                        OnlyNode = session.Value(node),
                        NameOf = names.Of,
                    }
                );
                await WriteAsync(session, proposal);
                return proposal.Objects.Count > 0 ? ExitCodes.Ok : ExitCodes.No;
            })
        );
        return command;
    }

    private static async Task WriteAsync(Session session, ImportResult proposal)
    {
        switch (session.Format)
        {
            case OutputFormat.Json:
                string items = string.Join(',', proposal.Objects.Select(o => o.Json.GetRawText()));
                using (var list = JsonDocument.Parse($$"""{"apiVersion":"v1","kind":"List","items":[{{items}}]}"""))
                {
                    session.Printer.Write(list.RootElement);
                }

                break;
            case OutputFormat.Name:
                foreach (ImportedObject one in proposal.Objects)
                    session.Printer.Line($"{one.Entity.Kind.ToLowerInvariant()}.{PciOperatorApi.Group}/{one.Entity.Metadata.Name}");
                break;
            default:
                await session.Io.Out.WriteAsync(proposal.ToYaml());
                break;
        }

        foreach (ImportError error in proposal.Errors)
            await session.WarnAsync(error.ToString());
        if (proposal.Objects.Count == 0)
            await session.WarnAsync("Nothing to propose: specs name all that the nodes have and guards allow.");
    }
}
