/** What viewers do not see: forms and exports. */
import { createContext, useContext, type Child } from 'hono/jsx'

/** Whether a page is for a viewer. */
export const ForViewer = createContext(false)

/** Shows its children to admins only. */
export const AdminsOnly = ({ children }: { children?: Child }) => (
  <>{useContext(ForViewer) ? undefined : children}</>
)
