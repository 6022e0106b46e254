using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Background;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer;

/// <summary>The server without HTTP: objects, what kinds there are, and who reacts to changes.</summary>
internal sealed class ApiCore : IDisposable
{
    private readonly CancellationTokenSource _stopping = new();

    public ApiCore(SandboxApiServerOptions options)
    {
        Options = options;
        Identities = new Identities(options.Seed);
        Store = new ObjectStore(options.HistoryLength);
        Writer = new ObjectWriter(Store, new Admission(options.Validators), Identities, options.TimeProvider);
        Garbage = new GarbageCollection(Store, Catalog, Writer);
        Store.Changed += new DefinitionServing(Store, Catalog, Writer).OnChanged;
        if (options.CollectGarbage)
            Store.Changed += Garbage.OnChanged;
        if (options.EmptyDeletedNamespaces)
            Store.Changed += new NamespaceEmptying(Store, Catalog, Writer).OnChanged;
        foreach (string name in new[] { "default", "kube-node-lease", "kube-public", "kube-system" })
        {
            var ns = new JsonObject
            {
                ["apiVersion"] = "v1",
                ["kind"] = "Namespace",
                ["metadata"] = new JsonObject { ["name"] = name },
            };
            Writer.Create(Catalog.Find("", "v1", "namespaces")!, "", ns, new WriteOptions());
        }

        foreach (ResourceType type in Catalog.All)
            Store.Table(type.StorageTable);
    }

    public SandboxApiServerOptions Options { get; }

    public Identities Identities { get; }

    public ObjectStore Store { get; }

    public Catalog Catalog { get; } = new();

    public ObjectWriter Writer { get; }

    public GarbageCollection Garbage { get; }

    public CancellationToken Stopping => _stopping.Token;

    public DateTimeOffset Now => Options.TimeProvider.GetUtcNow();

    /// <summary>Ends all watches.</summary>
    public void Stop() => _stopping.Cancel();

    public void Dispose() => _stopping.Dispose();

    /// <summary>Installs CustomResourceDefinitions from YAML or JSON texts.</summary>
    public void Install(IEnumerable<string> texts)
    {
        ResourceType crds = Catalog.Find("apiextensions.k8s.io", "v1", "customresourcedefinitions")!;
        foreach (JsonNode? node in texts.SelectMany(Yaml.Parse))
        {
            if (node is not JsonObject crd || crd.Str("kind") != "CustomResourceDefinition")
            {
                throw new ArgumentException(
                    $"expected a CustomResourceDefinition, found {Json.Text(node)[..Math.Min(80, Json.Text(node).Length)]}"
                );
            }

            try
            {
                Writer.Create(crds, "", crd, new WriteOptions());
            }
            catch (ApiError e)
            {
                throw new ArgumentException(e.Message, e);
            }
        }
    }
}
