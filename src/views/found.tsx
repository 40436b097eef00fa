/** The page of users that a search has found, if there are several. */
import { usersTable, type Line } from './overview-users.tsx'
import { Page, type Frame } from './page.tsx'
import { Card } from './parts.tsx'

export const foundPage = ({ users, ...frame }: Frame & { users: Line[] }) => (
  <Page title="Users found" {...frame}>
    <h1>Users found</h1>
    <Card id="found" title="Users">
      {usersTable(users, 'found by a search', false, frame.now)}
    </Card>
  </Page>
)
