using System.CommandLine;
using System.Text.RegularExpressions;
using PciOperator.Api;
using PciOperator.Cli.Commands;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.Cli.Ask;

/// <summary>The options that say what a claim asks for.</summary>
internal sealed partial class RequestOptions
{
    private const int MostRequests = 8;
    private const int MostDevices = 16;

    private readonly Option<string> _alias = new("--alias")
    {
        Description = "What is asked for, as Nova's flavors write it: a1:2,a2:1.",
        Required = true,
    };

    private readonly Option<NumaPolicy?> _numaPolicy = new("--numa-policy")
    {
        Description = "NUMA policy of all requests: required, socket, preferred or legacy; without it the aliases'.",
        HelpName = "policy",
        CustomParser = result =>
        {
            if (NovaWords.TryParseNumaPolicy(result.Tokens[0].Value, out NumaPolicy policy))
                return policy;
            result.AddError($"--numa-policy {result.Tokens[0].Value} is not known: required, socket, preferred or legacy.");
            return null;
        },
    };

    private readonly Option<string?> _numaNodes = new("--numa-nodes")
    {
        Description = "The host NUMA nodes that the guest sits on: 0 or 0,1; none for a guest without NUMA.",
        HelpName = "nodes|none",
    };

    private readonly Option<string?> _node = new("--node") { Description = "The only node to place it on." };

    private readonly Option<string[]> _with = new("--co-locate-with")
    {
        Description = "A claim of the same namespace that must be on the same node.",
        HelpName = "claim",
    };

    /// <summary>Gives a command these options.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_alias, _numaPolicy, _numaNodes, _node, _with])
            command.Options.Add(option);
    }

    /// <summary>What a claim with these options asks for.</summary>
    public PassthroughClaimSpec Read(Session session)
    {
        string? numa = session.Value(_numaNodes);
        return new PassthroughClaimSpec
        {
            Requests = Requests(session.Value(_alias)!),
            NumaPolicy = session.Value(_numaPolicy),
            NumaNodes = numa is null or "none" ? null : NumaNodes(numa),
            GuestNuma = numa == "none" ? Api.GuestNuma.None : null,
            NodeName = session.Value(_node),
            CoLocateWith = session.Value(_with) is { Length: > 0 } with ? with : null,
        };
    }

    /// <summary>
    /// Requests that are named as their aliases where that names each once, and r1, r2, … as in Nova else: a request's name is what VMs call
    /// its devices by.
    /// </summary>
    internal static IReadOnlyList<ClaimRequest> Requests(string text)
    {
        IReadOnlyList<NovaRequest> parsed;
        try
        {
            parsed = NovaRequestString.Parse(text);
        }
        catch (SpecFormatException bad)
        {
            throw new CliException(ExitCodes.Usage, $"--alias: {bad.Message}");
        }

        if (parsed.Count is 0 or > MostRequests)
            throw new CliException(ExitCodes.Usage, $"--alias has {parsed.Count} requests; a claim has 1 to {MostRequests}.");
        if (parsed.FirstOrDefault(r => r.Count > MostDevices) is { Alias: not null } much)
        {
            throw new CliException(
                ExitCodes.Usage,
                $"--alias asks for {much.Count} of {much.Alias}; a request is for {MostDevices} at most."
            );
        }

        bool byAlias =
            parsed.Select(r => r.Alias).Distinct().Count() == parsed.Count
            && parsed.All(r => RequestName().IsMatch(r.Alias))
            && !parsed.Any(r => parsed.Any(other => r.Alias.StartsWith(other.Alias + "-", StringComparison.Ordinal)));
        return
        [
            .. parsed.Select(
                (r, i) =>
                    new ClaimRequest
                    {
                        Name = byAlias ? r.Alias : $"r{i + 1}",
                        Alias = r.Alias,
                        Count = (int)r.Count,
                    }
            ),
        ];
    }

    [GeneratedRegex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    private static partial Regex RequestName();

    private static IReadOnlyList<int> NumaNodes(string text)
    {
        var nodes = new List<int>();
        foreach (string part in text.Split(','))
        {
            if (!int.TryParse(part, out int node) || node < 0)
                throw new CliException(ExitCodes.Usage, $"--numa-nodes {text}: numbers of NUMA nodes such as 0,1, or none.");
            nodes.Add(node);
        }

        return nodes;
    }
}
