using PciOperator.Api;

namespace PciOperator.Import;

/// <summary>An import while it is made.</summary>
internal sealed class ImportDraft
{
    private readonly List<ImportedObject> _objects = [];
    private readonly List<ImportError> _errors = [];

    /// <summary>Names of PciDeviceSpecs.</summary>
    public ObjectNames SpecNames { get; } = new();

    /// <summary>Names of PciAliases.</summary>
    public ObjectNames AliasNames { get; } = new();

    /// <summary>Names of claims.</summary>
    public ObjectNames ClaimNames { get; } = new();

    /// <summary>What is said of the whole, in order.</summary>
    public List<string> Notes { get; } = [];

    /// <summary>Adds a spec.</summary>
    public void Add(string name, PciDeviceSpecSpec spec, IReadOnlyList<string> notes) =>
        _objects.Add(
            ImportedObject.Of(
                new PciDeviceSpec
                {
                    Metadata = new() { Name = name },
                    Spec = spec,
                },
                notes
            )
        );

    /// <summary>Adds an alias.</summary>
    public void Add(string name, PciAliasSpec alias, IReadOnlyList<string> notes) =>
        _objects.Add(
            ImportedObject.Of(
                new PciAlias
                {
                    Metadata = new() { Name = name },
                    Spec = alias,
                },
                notes
            )
        );

    /// <summary>Adds a claim.</summary>
    public void Add(string name, PassthroughClaimSpec claim, IReadOnlyList<string> notes) =>
        _objects.Add(
            ImportedObject.Of(
                new PassthroughClaim
                {
                    Metadata = new() { Name = name },
                    Spec = claim,
                },
                notes
            )
        );

    /// <summary>Says what can't be meant.</summary>
    public void Refuse(string file, int? line, string message) => _errors.Add(new ImportError(file, line, message));

    /// <summary>What came of it; errors in the order of the files' lines.</summary>
    /// <param name="files">The files, in order.</param>
    public ImportResult Result(IEnumerable<SourceFile> files)
    {
        List<string> order = [.. files.Select(f => f.Name)];
        return new ImportResult
        {
            Objects = _objects,
            Notes = Notes,
            Errors = [.. _errors.OrderBy(e => order.IndexOf(e.File)).ThenBy(e => e.Line ?? 0)],
        };
    }
}
