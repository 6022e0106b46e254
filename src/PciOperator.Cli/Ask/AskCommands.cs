using System.CommandLine;
using System.Text.Json;
using PciOperator.Api;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Output;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Placement;

namespace PciOperator.Cli.Ask;

/// <summary>The commands that ask for devices, or what would become of it.</summary>
internal static class AskCommands
{
    /// <summary>The commands.</summary>
    public static IEnumerable<Command> All(Shell shell) =>
        [Claim(shell), Explain(shell), Simulate(shell), Capacity(shell), DiscoverCommand.Of(shell)];

    private static Command Claim(Shell shell)
    {
        var name = new Argument<string>("name") { Description = "The claim's name." };
        var requests = new RequestOptions();
        var binding = new Option<BindingMode?>("--binding-mode")
        {
            Description = "Immediate, or WaitForFirstConsumer: kube-scheduler takes the node.",
        };
        var delivery = new Option<Delivery?>("--delivery")
        {
            Description = "DRA, DevicePlugin or None; without it as the installation says.",
        };
        var priorityClass = new Option<string?>("--priority-class")
        {
            Description = "The PriorityClass by which it waits: higher values are served first. Without it the cluster's default.",
            HelpName = "class",
        };
        var dryRun = new Option<bool>("--dry-run") { Description = "The server checks the claim, and stores nothing." };
        var create = new Command("create", "Make a claim in Nova's words.") { name };
        requests.AddTo(create);
        foreach (Option option in (Option[])[binding, delivery, priorityClass, dryRun])
            create.Options.Add(option);
        create.SetAction(
            shell.Run(async session =>
            {
                var claim = new PassthroughClaim
                {
                    Metadata = new k8s.Models.V1ObjectMeta { Name = session.Value(name), NamespaceProperty = session.Namespace },
                    Spec = requests.Read(session) with
                    {
                        BindingMode = session.Value(binding) ?? BindingMode.Immediate,
                        Delivery = session.Value(delivery),
                        PriorityClassName = session.Value(priorityClass),
                    },
                };
                bool only = session.Value(dryRun);
                PassthroughClaim made = await CreateAsync(session, claim, only);
                if (session.Format is OutputFormat.Json or OutputFormat.Yaml)
                {
                    session.Printer.Write(made, session.Client.JsonOptions.TypeInfo<PassthroughClaim>());
                }
                else
                {
                    session.Printer.Line(
                        $"passthroughclaim.{PciOperatorApi.Group}/{made.Metadata.Name}{(session.Format == OutputFormat.Name ? "" : only ? " created (dry run)" : " created")}"
                    );
                }

                return ExitCodes.Ok;
            })
        );
        return new Command("claim", "Claims.") { create };
    }

    private static async Task<PassthroughClaim> CreateAsync(Session session, PassthroughClaim claim, bool dryRun)
    {
        string path =
            $"/apis/{PciOperatorApi.GroupVersion}/namespaces/{Uri.EscapeDataString(claim.Metadata.NamespaceProperty)}/passthroughclaims?fieldManager=kubectl-pci{(dryRun ? "&dryRun=All" : "")}";
        JsonSerializerOptions json = session.Client.JsonOptions;
        try
        {
            using JsonDocument answer = await session.Client.SendRawAsync(
                HttpMethod.Post,
                path,
                JsonSerializer.SerializeToUtf8Bytes(claim, json.TypeInfo<PassthroughClaim>()),
                ct: session.Ct
            );
            return answer.Deserialize(json.TypeInfo<PassthroughClaim>())!;
        }
        catch (ApiException missing) when (missing.IsNotFound)
        {
            // Of the kind, or of the namespace.
            await session.ListAsync<PassthroughClaim>(claim.Metadata.NamespaceProperty);
            throw new CliException(ExitCodes.NotFound, missing.Message);
        }
    }

    private static Command Explain(Shell shell)
    {
        var name = new Argument<string>("claim") { Description = "The claim." };
        var command = new Command("explain", "Why a claim is where it is, or waits: what each node says to it, check by check.") { name };
        command.SetAction(
            shell.Run(async session =>
            {
                PassthroughClaim claim = await session.RequireAsync<PassthroughClaim>(session.Value(name)!, session.Namespace);
                ExplanationView view = await ExplainAsync(session, claim, () => ClusterSnapshot.LoadAsync(session));
                if (session.Format is OutputFormat.Json or OutputFormat.Yaml)
                    session.Printer.Write(view, AskJsonContext.Default.ExplanationView);
                else
                    Show(session.Printer, view);
                return view.Fits ? ExitCodes.Ok : ExitCodes.No;
            })
        );
        return command;
    }

    /// <summary>Why a claim is where it is, or waits.</summary>
    /// <param name="session">Who asks: what the claim's namespace may have is read with it.</param>
    /// <param name="claim">The claim.</param>
    /// <param name="load">The cluster, if it takes that to say.</param>
    public static async Task<ExplanationView> ExplainAsync(Session session, PassthroughClaim claim, Func<Task<ClusterSnapshot>> load)
    {
        var seen = See.ClaimView.Of(claim);
        var told = new ExplanationView
        {
            Claim = $"{seen.Namespace}/{seen.Name}",
            Requests = seen.Requests,
            Phase = seen.Phase,
            Node = seen.Node,
            Summary = seen.Message ?? (seen.Ready ? "Its devices are bound and verified." : "Its controller has not looked at it yet."),
            Fits = true,
        };
        if (claim.Metadata.DeletionTimestamp is not null || seen.Node is not null)
            return told;

        ClusterSnapshot cluster = await load();
        if (await NamespaceRules.WhyNotAsync(session, cluster, claim) is { } why)
        {
            bool isSaid = claim.Status?.Conditions.Find(Conditions.Scheduled)?.Reason is "QuotaExceeded" or "NamespaceNotAllowed";
            return told with { Fits = false, Summary = isSaid ? told.Summary : why };
        }

        try
        {
            return Decide(cluster, claim, told);
        }
        catch (CliException missing) when (missing.ExitCode == ExitCodes.NotFound)
        {
            // An alias that is not there is why the claim waits.
            return told with { Fits = false, Summary = missing.Message };
        }
    }

    private static ExplanationView Decide(ClusterSnapshot cluster, PassthroughClaim claim, ExplanationView told)
    {
        CoLocation group = cluster.GroupOf(claim);
        if (group.Missing is { } missing)
        {
            return told with
            {
                Fits = false,
                Summary = $"It waits for claim {missing}, which coLocateWith names and which does not exist.",
            };
        }

        if (group.TooMany)
        {
            return told with
            {
                Fits = false,
                Summary = $"coLocateWith ties it to more claims than can be placed together: at most {CoLocation.Most}.",
            };
        }

        if (group.Nodes.Count > 1)
        {
            return told with
            {
                Fits = false,
                Summary = $"The claims that coLocateWith names are on several nodes: {string.Join(", ", group.Nodes)}.",
            };
        }

        string? only = group.Nodes.FirstOrDefault();
        bool waits = claim.Spec.BindingMode == BindingMode.WaitForFirstConsumer;
        ClaimToPlace asked = cluster.ToPlace(claim);
        IReadOnlyList<NodeAnswerView> nodes = [.. cluster.View.Explain(asked, only).Select(ViewOf)];
        if (waits)
        {
            int offered = cluster.View.Rank(asked, only, int.MaxValue, out string refusal).Count;
            return told with
            {
                Fits = offered > 0,
                Nodes = nodes,
                Summary =
                    offered > 0
                        ? $"It waits for a pod or VM, for which kube-scheduler takes one of the nodes that can serve it ({offered})."
                        : refusal,
            };
        }

        GroupDecision decision = cluster.View.Place(
            [.. group.Unplaced.Where(c => c.Spec.BindingMode == BindingMode.Immediate).Select(cluster.ToPlace)],
            only
        );
        return told with { Fits = decision.Node is not null, Nodes = nodes, Summary = decision.Summary };
    }

    private static NodeAnswerView ViewOf(NodeAnswer answer)
    {
        List<CheckView> checks = [.. answer.Checks.Select(c => new CheckView(c.Subject, c.Reason is null, OfOne(c.Reason)))];
        if (answer.Verdict is not null)
            checks.Add(new CheckView("devices", answer.Allocation is not null, answer.Allocation is null ? OfOne(answer.WhyNot) : null));
        return new NodeAnswerView(
            answer.Node,
            answer.Allocation is not null,
            checks,
            answer.Allocation is { } given ? DevicesOf(given) : null,
            answer.Withheld.Length > 0 ? answer.Withheld : null
        );
    }

    private static IReadOnlyList<GivenDevice> DevicesOf(NodeAllocation allocation) =>
        [.. allocation.Devices.Select(d => new GivenDevice(d.Address.ToString(), d.Companion ? null : d.Request, d.Companion))];

    /// <summary>"have no device" as it reads of one node: "has no device".</summary>
    private static string? OfOne(RefusalReason? reason) => reason?.Of(1)[2..];

    private static void Show(Printer printer, ExplanationView view)
    {
        printer.Line(
            ($"{view.Claim} ", Tone.Heading),
            ($"({view.Requests}) ", Tone.Plain),
            (view.Node is null ? view.Phase : $"{view.Phase} on {view.Node}", view.Fits ? Tone.Good : Tone.Busy)
        );
        printer.Line(view.Summary);
        foreach (NodeAnswerView node in view.Nodes ?? [])
        {
            printer.Line();
            printer.Line((node.Node, Tone.Heading), (node.Fits ? "  yes" : "  no", node.Fits ? Tone.Good : Tone.Bad));
            string passed = string.Join(", ", node.Checks.Where(c => c.Passed).Select(c => c.Check));
            if (passed.Length > 0)
                printer.Line(("  passed  ", Tone.Faint), (passed, Tone.Plain));
            foreach (CheckView failed in node.Checks.Where(c => !c.Passed))
                printer.Line(("  failed  ", Tone.Bad), ($"{failed.Check}: {failed.Why}", Tone.Plain));
            if (node.Withheld is { } withheld)
                printer.Line(("          ", Tone.Plain), (withheld, Tone.Plain));
            if (node.Devices is { } devices)
                printer.Line(("  gives   ", Tone.Good), (string.Join(", ", devices.Select(Name)), Tone.Plain));
        }
    }

    private static string Name(GivenDevice device) =>
        device.Companion ? $"{device.Address} (companion)" : $"{device.Address} ({device.Request})";

    private static Command Simulate(Shell shell)
    {
        var requests = new RequestOptions();
        var command = new Command("simulate", "Whether a claim would fit now, where, and what would still fit after it. Nothing is made.");
        requests.AddTo(command);
        command.SetAction(
            shell.Run(async session =>
            {
                PassthroughClaimSpec spec = requests.Read(session);
                ClusterSnapshot cluster = await ClusterSnapshot.LoadAsync(session);
                PassthroughClaim claim = ClusterSnapshot.Imagine(spec, session.Namespace);
                ClaimToPlace asked = cluster.ToPlace(claim);
                CoLocation group = cluster.GroupOf(claim);
                if (group.Missing is { } missing)
                    throw new CliException(ExitCodes.NotFound, $"There is no claim {missing}, which --co-locate-with names.");
                if (group.TooMany)
                {
                    throw new CliException(
                        ExitCodes.No,
                        $"--co-locate-with ties it to more claims than can be placed together: at most {CoLocation.Most}."
                    );
                }

                if (group.Nodes.Count > 1)
                {
                    throw new CliException(
                        ExitCodes.No,
                        $"The claims of --co-locate-with are on several nodes: {string.Join(", ", group.Nodes)}."
                    );
                }

                string? why = await NamespaceRules.WhyNotAsync(session, cluster, claim);
                IReadOnlyList<CapacityView> now = CapacityOf(cluster);
                GroupDecision? decision = why is not null
                    ? null
                    : cluster.View.Place(
                        [asked, .. group.Unplaced.Where(c => c.Metadata.Uid != claim.Metadata.Uid).Select(cluster.ToPlace)],
                        group.Nodes.FirstOrDefault()
                    );
                var after = CapacityOf(cluster).ToDictionary(c => c.Alias, c => c.More);
                NodeAllocation? given = decision?.Allocations.FirstOrDefault();
                var view = new SimulationView
                {
                    Requests = spec.RequestsToNova(),
                    Fits = decision?.Node is not null,
                    Node = decision?.Node,
                    Summary = decision?.Summary ?? why!,
                    NumaNodes = given?.NumaNodes,
                    Devices = given is null ? null : DevicesOf(given),
                    Capacity =
                    [
                        .. now.Where(c => c.More is not null).Select(c => new CapacityChange(c.Alias, c.More!.Value, after[c.Alias] ?? 0)),
                    ],
                };
                if (session.Format is OutputFormat.Json or OutputFormat.Yaml)
                    session.Printer.Write(view, AskJsonContext.Default.SimulationView);
                else
                    Show(session.Printer, view);
                return view.Fits ? ExitCodes.Ok : ExitCodes.No;
            })
        );
        return command;
    }

    private static void Show(Printer printer, SimulationView view)
    {
        printer.Line(
            ($"{view.Requests} ", Tone.Heading),
            view.Fits ? ($"would be placed on {view.Node}.", Tone.Good) : ("does not fit.", Tone.Bad)
        );
        if (!view.Fits)
            printer.Line(view.Summary);
        foreach (GivenDevice device in view.Devices ?? [])
            printer.Line($"  {Name(device)}");
        if (!view.Fits)
            return;
        printer.Line();
        printer.Table(
            new Sheet<CapacityChange>(
                view.Capacity,
                [
                    new("ALIAS", c => Cell.Of(c.Alias)),
                    new("MORE NOW", c => Cell.Of(c.Now)),
                    new(
                        "AFTER IT",
                        c =>
                            Cell.Of(
                                c.After.ToString(),
                                c.After == 0 ? Tone.Bad
                                    : c.After < c.Now ? Tone.Busy
                                    : Tone.Plain
                            )
                    ),
                ],
                c => c.Alias,
                null!
            )
        );
    }

    private static Command Capacity(Shell shell)
    {
        var command = new Command(
            "capacity",
            "How many claims for one device of each alias the cluster would still serve, one after the other, until none fits."
        );
        command.SetAction(
            shell.Run(async session =>
            {
                IReadOnlyList<CapacityView> capacity = CapacityOf(await ClusterSnapshot.LoadAsync(session));
                session.Printer.Write(
                    new Sheet<CapacityView>(
                        capacity,
                        [
                            new("ALIAS", c => Cell.Of(c.Alias)),
                            new(
                                "MORE",
                                c => c.More is { } more ? new($"{more}", more > 0 ? Tone.Good : Tone.Bad) : new("unusable", Tone.Bad)
                            ),
                            new(
                                "NODES",
                                c =>
                                    Cell.Of(
                                        c.Nodes is null
                                            ? null
                                            : string.Join(", ", c.Nodes.Where(n => n.Value > 0).Select(n => $"{n.Key}: {n.Value}"))
                                    )
                            )
                            {
                                CutTo = 20,
                            },
                        ],
                        c => $"pcialias.{PciOperatorApi.Group}/{c.Alias}",
                        AskJsonContext.Default.ListingCapacityView
                    )
                    {
                        Nothing = "No PciAliases: claims ask for devices by alias.",
                    }
                );
                return ExitCodes.Ok;
            })
        );
        return command;
    }

    /// <summary>How many more of each alias the cluster could serve.</summary>
    public static IReadOnlyList<CapacityView> CapacityOf(ClusterSnapshot cluster) =>
        [
            .. cluster.Aliases.Select(alias =>
            {
                string name = alias.Metadata.Name;
                if (cluster.View.Alias(name) is null)
                    return new CapacityView { Alias = name };
                var spec = new PassthroughClaimSpec { Requests = [new ClaimRequest { Name = "one", Alias = name }] };
                IReadOnlyDictionary<string, int> nodes = cluster.View.Capacity(cluster.ToPlace(ClusterSnapshot.Imagine(spec, "default")));
                return new CapacityView
                {
                    Alias = name,
                    More = nodes.Values.Sum(),
                    Nodes = nodes,
                };
            }),
        ];
}
