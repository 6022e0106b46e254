namespace PciOperator.Core;

/// <summary>A check of a node that has nothing to do with its devices (ready, cordoned, taints, …), one of a chain.</summary>
public interface INodeFilter
{
    /// <summary>Its name, for people who read the chain.</summary>
    string Name { get; }

    /// <summary>Null when the node passes; else the reason.</summary>
    RefusalReason? Check(string node);
}

/// <summary>How to choose among nodes that fit equally well.</summary>
public enum NodeStrategy
{
    /// <summary>Fill nodes that are in use first.</summary>
    Pack,

    /// <summary>Prefer nodes with more free devices of what is asked for.</summary>
    Spread,
}

/// <summary>Options of a placement.</summary>
public sealed record PlacementOptions
{
    /// <summary>Pack.</summary>
    public static PlacementOptions Default { get; } = new();

    /// <summary>Pack or spread.</summary>
    public NodeStrategy Strategy { get; init; }
}
